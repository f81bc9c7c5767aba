//! The flags of sops 3.13.3, command by command.

use crate::personas::go_flag::Flag;

pub(super) const HELP: Flag = Flag::bool(&["help", "h"], "show help");
pub(super) const VERSION: Flag = Flag::bool(&["version", "v"], "print the version");
pub(super) const DECRYPT_MODE: Flag = Flag::bool(&["decrypt", "d"], "decrypt a file to stdout");
pub(super) const ENCRYPT_MODE: Flag = Flag::bool(&["encrypt", "e"], "encrypt a file to stdout");
pub(super) const ROTATE_MODE: Flag = Flag::bool(&["rotate", "r"], "re-encrypt a file with a new data key");
pub(super) const SET_MODE: Flag =
    Flag::text(&["set"], "set one value: a path and JSON, as in '[\"key\"][0] {\"a\":true}'");
pub(super) const NO_VERSION_CHECK: Flag =
    Flag::bool(&["disable-version-check"], "accepted and ignored: civm never checks for updates")
        .env("SOPS_DISABLE_VERSION_CHECK");
pub(super) const CHECK_FOR_UPDATES: Flag =
    Flag::bool(&["check-for-updates"], "accepted and ignored: civm never checks for updates");
pub(super) const AGE: Flag =
    Flag::text(&["age", "a"], "comma-separated age recipients").env("SOPS_AGE_RECIPIENTS");
pub(super) const GROUP_AGE: Flag =
    Flag::text(&["age"], "an age recipient of the new group; may be given several times");
pub(super) const ADD_AGE: Flag = Flag::text(&["add-age"], "comma-separated age recipients to add");
pub(super) const RM_AGE: Flag = Flag::text(&["rm-age"], "comma-separated age recipients to remove");
pub(super) const IN_PLACE: Flag = Flag::bool(&["in-place", "i"], "replace the file instead of printing");
pub(super) const OUTPUT: Flag = Flag::text(&["output"], "write to this file instead of printing");
pub(super) const EXTRACT: Flag =
    Flag::text(&["extract"], "print only the value at this path, such as '[\"key\"][0]'");
pub(super) const INPUT_TYPE: Flag = Flag::text(
    &["input-type"],
    "the input format: yaml, json, dotenv, ini or binary (default: from the file's extension)",
);
pub(super) const OUTPUT_TYPE: Flag = Flag::text(
    &["output-type"],
    "the output format: yaml, json, dotenv, ini or binary (default: from the file's extension)",
);
pub(super) const SHOW_MASTER_KEYS: Flag =
    Flag::bool(&["show-master-keys", "s"], "also show the metadata in the editor");
pub(super) const IGNORE_MAC: Flag = Flag::bool(&["ignore-mac"], "do not check the MAC");
pub(super) const MAC_ONLY_ENCRYPTED: Flag =
    Flag::bool(&["mac-only-encrypted"], "compute the MAC of a new file over encrypted values only");
pub(super) const UNENCRYPTED_SUFFIX: Flag =
    Flag::text(&["unencrypted-suffix"], "leave values unencrypted if their key ends with this");
pub(super) const ENCRYPTED_SUFFIX: Flag =
    Flag::text(&["encrypted-suffix"], "encrypt only values whose key ends with this");
pub(super) const UNENCRYPTED_REGEX: Flag =
    Flag::text(&["unencrypted-regex"], "leave values unencrypted if their key matches this");
pub(super) const ENCRYPTED_REGEX: Flag =
    Flag::text(&["encrypted-regex"], "encrypt only values whose key matches this");
pub(super) const UNENCRYPTED_COMMENT_REGEX: Flag =
    Flag::text(&["unencrypted-comment-regex"], "leave values unencrypted if their comment matches this");
pub(super) const ENCRYPTED_COMMENT_REGEX: Flag =
    Flag::text(&["encrypted-comment-regex"], "encrypt only values whose comment matches this");
pub(super) const CONFIG: Flag = Flag::text(
    &["config"],
    "the file with the creation rules (default: .sops.yaml in or above this directory, else above the file)",
)
.env("SOPS_CONFIG");
pub(super) const THRESHOLD: Flag =
    Flag::int(&["shamir-secret-sharing-threshold"], "how many key groups are needed to decrypt the file");
pub(super) const INDENT: Flag = Flag::int(&["indent"], "indentation of YAML and JSON, in spaces");
pub(super) const VERBOSE: Flag = Flag::bool(&["verbose"], "print more detail");
pub(super) const FILENAME_OVERRIDE: Flag =
    Flag::text(&["filename-override"], "choose the rule and the format as if the file had this name");
pub(super) const DECRYPTION_ORDER: Flag =
    Flag::text(&["decryption-order"], "the order in which key types are tried").env("SOPS_DECRYPTION_ORDER");
pub(super) const LOCAL_KEYSERVICE: Flag =
    Flag::bool(&["enable-local-keyservice"], "use the keys on this machine; nothing else is supported")
        .env("SOPS_ENABLE_LOCAL_KEYSERVICE");
pub(super) const KEYSERVICE: Flag =
    Flag::text(&["keyservice"], "refused: there are no remote key services").env("SOPS_KEYSERVICE");
pub(super) const VALUE_FILE: Flag = Flag::bool(&["value-file"], "read the value from the given file");
pub(super) const VALUE_STDIN: Flag = Flag::bool(&["value-stdin"], "read the value from stdin");
pub(super) const IDEMPOTENT: Flag = Flag::bool(&["idempotent"], "do not write the file if nothing changes");
pub(super) const YES: Flag = Flag::bool(&["yes", "y"], "do not ask");
pub(super) const CHECK_KEYS: Flag =
    Flag::bool(&["check"], "only check, without a key; exit with code 1 if a file is out of date");
pub(super) const ALL: Flag = Flag::bool(
    &["all"],
    "every sops file in these directories (default: where .sops.yaml is); only outdated files are shown",
);
pub(super) const KEEP: Flag = Flag::bool(
    &["keep"],
    "replace the plaintext of the encrypted file given by --output; unchanged values keep their ciphertext",
);
pub(super) const TEXTCONV: Flag =
    Flag::bool(&["textconv"], "for git: never ask, and print the file unchanged if no key decrypts it");
pub(super) const CHECK_FILE: Flag =
    Flag::bool(&["check"], "print what does not match .sops.yaml, and exit with code 1 if there is anything");
pub(super) const FILE: Flag = Flag::text(&["file", "f"], "the file");
pub(super) const BACKGROUND: Flag = Flag::bool(&["background"], "do not wait for the command (deprecated)");
pub(super) const PRISTINE: Flag =
    Flag::bool(&["pristine"], "give the command no other environment variables");
pub(super) const USER: Flag = Flag::text(&["user"], "the user to run the command as");
pub(super) const SAME_PROCESS: Flag =
    Flag::bool(&["same-process"], "replace this process with the command (exec)");
pub(super) const NO_FIFO: Flag = Flag::bool(&["no-fifo"], "use a regular file instead of a pipe");
pub(super) const FILENAME: Flag =
    Flag::text(&["filename"], "the name of the file that the command reads (default: tmp-file)");

pub(super) const OMIT_EXTENSIONS: Flag = Flag::bool(&["omit-extensions"], NOT_HERE);
pub(super) const RECURSIVE: Flag = Flag::bool(&["recursive"], NOT_HERE);
pub(super) const NETWORK: Flag = Flag::text(&["network", "net"], NOT_HERE).or("tcp");
pub(super) const ADDRESS: Flag = Flag::text(&["address", "addr"], NOT_HERE).or("127.0.0.1:5000");
pub(super) const PROMPT: Flag = Flag::bool(&["prompt"], NOT_HERE);

/// The help of the flags of what is not done.
const NOT_HERE: &str = "not supported here";
/// The help of what is known and never done.
const REFUSED: &str = "refused: only age keys are supported";

pub(super) const KMS: Flag = Flag::text(&["kms", "k"], REFUSED).env("SOPS_KMS_ARN");
pub(super) const PGP: Flag = Flag::text(&["pgp", "p"], REFUSED).env("SOPS_PGP_FP");
pub(super) const GCP_KMS: Flag = Flag::text(&["gcp-kms"], REFUSED).env("SOPS_GCP_KMS_IDS");
pub(super) const HCKMS: Flag = Flag::text(&["hckms"], REFUSED).env("SOPS_HUAWEICLOUD_KMS_IDS");
pub(super) const AZURE_KV: Flag = Flag::text(&["azure-kv"], REFUSED).env("SOPS_AZURE_KEYVAULT_URLS");
pub(super) const HC_VAULT: Flag = Flag::text(&["hc-vault-transit"], REFUSED).env("SOPS_VAULT_URIS");
pub(super) const AWS_PROFILE: Flag = Flag::text(&["aws-profile"], REFUSED);
pub(super) const ENCRYPTION_CONTEXT: Flag = Flag::text(&["encryption-context"], REFUSED);

/// Other kinds of keys for a new file.
pub(super) static OTHER_KEYS: [Flag; 8] =
    [KMS, PGP, GCP_KMS, HCKMS, AZURE_KV, HC_VAULT, AWS_PROFILE, ENCRYPTION_CONTEXT];

pub(super) const GROUP_PGP: Flag = Flag::text(&["pgp"], REFUSED);
pub(super) const GROUP_KMS: Flag = Flag::text(&["kms"], REFUSED);
pub(super) const GROUP_GCP_KMS: Flag = Flag::text(&["gcp-kms"], REFUSED);
pub(super) const GROUP_HCKMS: Flag = Flag::text(&["hckms"], REFUSED);
pub(super) const GROUP_AZURE_KV: Flag = Flag::text(&["azure-kv"], REFUSED);
pub(super) const GROUP_HC_VAULT: Flag = Flag::text(&["hc-vault-transit"], REFUSED);

/// Other kinds of keys for a new group.
pub(super) static OTHER_GROUP_KEYS: [Flag; 8] = [
    GROUP_PGP,
    GROUP_KMS,
    AWS_PROFILE,
    GROUP_GCP_KMS,
    GROUP_HCKMS,
    GROUP_AZURE_KV,
    GROUP_HC_VAULT,
    ENCRYPTION_CONTEXT,
];

pub(super) const ADD_KMS: Flag = Flag::text(&["add-kms"], REFUSED);
pub(super) const RM_KMS: Flag = Flag::text(&["rm-kms"], REFUSED);
pub(super) const ADD_PGP: Flag = Flag::text(&["add-pgp"], REFUSED);
pub(super) const RM_PGP: Flag = Flag::text(&["rm-pgp"], REFUSED);
pub(super) const ADD_GCP_KMS: Flag = Flag::text(&["add-gcp-kms"], REFUSED);
pub(super) const RM_GCP_KMS: Flag = Flag::text(&["rm-gcp-kms"], REFUSED);
pub(super) const ADD_HCKMS: Flag = Flag::text(&["add-hckms"], REFUSED);
pub(super) const RM_HCKMS: Flag = Flag::text(&["rm-hckms"], REFUSED);
pub(super) const ADD_AZURE_KV: Flag = Flag::text(&["add-azure-kv"], REFUSED);
pub(super) const RM_AZURE_KV: Flag = Flag::text(&["rm-azure-kv"], REFUSED);
pub(super) const ADD_HC_VAULT: Flag = Flag::text(&["add-hc-vault-transit"], REFUSED);
pub(super) const RM_HC_VAULT: Flag = Flag::text(&["rm-hc-vault-transit"], REFUSED);

/// Other kinds of keys that come and go when a file is rotated.
pub(super) static OTHER_CHANGES: [Flag; 12] = [
    ADD_KMS,
    RM_KMS,
    ADD_PGP,
    RM_PGP,
    ADD_GCP_KMS,
    RM_GCP_KMS,
    ADD_HCKMS,
    RM_HCKMS,
    ADD_AZURE_KV,
    RM_AZURE_KV,
    ADD_HC_VAULT,
    RM_HC_VAULT,
];

/// What sops does not have. None of the names is one of its own.
pub(super) static OWN: [Flag; 5] = [CHECK_KEYS, ALL, KEEP, TEXTCONV, CHECK_FILE];

/// What chooses the values of a new file that are encrypted, and how sops names it in files and rules.
pub(super) static SELECTORS: [(Flag, &str); 6] = [
    (UNENCRYPTED_SUFFIX, "unencrypted_suffix"),
    (ENCRYPTED_SUFFIX, "encrypted_suffix"),
    (UNENCRYPTED_REGEX, "unencrypted_regex"),
    (ENCRYPTED_REGEX, "encrypted_regex"),
    (UNENCRYPTED_COMMENT_REGEX, "unencrypted_comment_regex"),
    (ENCRYPTED_COMMENT_REGEX, "encrypted_comment_regex"),
];
