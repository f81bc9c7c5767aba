//! The commands of sops 3.13.3 and which flags each of them has, civm's own among them.

use super::flags::*;
use crate::personas::go_flag::Flag;

/// What a command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Legacy,
    CompletionBash,
    CompletionZsh,
    ExecEnv,
    ExecFile,
    Publish,
    Keyservice,
    Filestatus,
    GroupsAdd,
    GroupsDelete,
    Updatekeys,
    Decrypt,
    Encrypt,
    Rotate,
    Edit,
    Set,
    Unset,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// Its name, behind the name of the command that it is part of.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    /// Its arguments besides flags.
    pub(super) args: &'static str,
    /// Its flags.
    pub(super) flags: &'static [Flag],
    /// What follows.
    pub(super) then: Then,
}

/// What is behind a command's name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Its flags and arguments.
    Run(Verb),
    /// One more name.
    Choose(&'static [Command]),
}

const fn run(
    name: &'static str,
    args: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    verb: Verb,
) -> Command {
    Command { name, about, args, flags, then: Then::Run(verb) }
}

const fn choose(name: &'static str, about: &'static str, of: &'static [Command]) -> Command {
    Command { name, about, args: "command", flags: &NO_FLAGS, then: Then::Choose(of) }
}

/// The whole program.
pub(super) static SOPS: Command = Command {
    name: "sops",
    about: "encrypted files in sops' format, for age recipients",
    args: "[command | file]",
    flags: &GLOBAL,
    then: Then::Choose(&COMMANDS),
};

pub(super) static COMMANDS: [Command; 14] = [
    choose("completion", "print a script that completes sops' command line in a shell", &COMPLETION),
    run(
        "exec-env",
        "file command",
        "run a command with a file's values as environment variables",
        &EXEC_ENV,
        Verb::ExecEnv,
    ),
    run("exec-file", "file command", "run a command on the plaintext of a file", &EXEC_FILE, Verb::ExecFile),
    run("publish", "file", "not supported here", &PUBLISH, Verb::Publish),
    run("keyservice", "", "not supported here", &SERVE, Verb::Keyservice),
    run("filestatus", "file", "show whether a file is encrypted", &FILESTATUS, Verb::Filestatus),
    choose("groups", "add or delete key groups of a file", &GROUPS),
    run(
        "updatekeys",
        "file...",
        "update the recipients of files to match .sops.yaml",
        &UPDATEKEYS,
        Verb::Updatekeys,
    ),
    run("decrypt", "[file]", "decrypt a file, or stdin", &DECRYPT, Verb::Decrypt),
    run("encrypt", "[file]", "encrypt a file, or stdin", &ENCRYPT, Verb::Encrypt),
    run("rotate", "file", "re-encrypt a file with a new data key", &ROTATE, Verb::Rotate),
    run("edit", "file", "edit a file in your editor", &EDIT, Verb::Edit),
    run("set", "file path [value]", "set one value, given in JSON", &SET, Verb::Set),
    run("unset", "file path", "remove one value", &UNSET, Verb::Unset),
];

static COMPLETION: [Command; 2] = [
    run("bash", "", "for bash: source <(sops completion bash)", &NO_FLAGS, Verb::CompletionBash),
    run("zsh", "", "for zsh: source <(sops completion zsh)", &NO_FLAGS, Verb::CompletionZsh),
];

static GROUPS: [Command; 2] = [
    run("add", "", "add a key group", &GROUPS_ADD, Verb::GroupsAdd),
    run("delete", "index", "delete a key group, by its index from 0", &GROUPS_DELETE, Verb::GroupsDelete),
];

static NO_FLAGS: [Flag; 1] = [HELP];

static EXEC_ENV: [Flag; 8] =
    [BACKGROUND, PRISTINE, USER, SAME_PROCESS, DECRYPTION_ORDER, LOCAL_KEYSERVICE, KEYSERVICE, HELP];

static EXEC_FILE: [Flag; 10] = [
    BACKGROUND,
    NO_FIFO,
    USER,
    INPUT_TYPE,
    OUTPUT_TYPE,
    FILENAME,
    DECRYPTION_ORDER,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static FILESTATUS: [Flag; 3] = [CHECK_FILE, INPUT_TYPE, HELP];

static UPDATEKEYS: [Flag; 7] = [CHECK_KEYS, ALL, YES, INPUT_TYPE, LOCAL_KEYSERVICE, KEYSERVICE, HELP];

static DECRYPT: [Flag; 12] = [
    TEXTCONV,
    IN_PLACE,
    EXTRACT,
    OUTPUT,
    INPUT_TYPE,
    OUTPUT_TYPE,
    IGNORE_MAC,
    FILENAME_OVERRIDE,
    DECRYPTION_ORDER,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static ENCRYPT: [Flag; 23] = [
    KEEP,
    IN_PLACE,
    OUTPUT,
    KMS,
    AWS_PROFILE,
    GCP_KMS,
    HCKMS,
    AZURE_KV,
    HC_VAULT,
    PGP,
    AGE,
    INPUT_TYPE,
    OUTPUT_TYPE,
    UNENCRYPTED_SUFFIX,
    ENCRYPTED_SUFFIX,
    UNENCRYPTED_REGEX,
    ENCRYPTED_REGEX,
    ENCRYPTION_CONTEXT,
    THRESHOLD,
    FILENAME_OVERRIDE,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static ROTATE: [Flag; 24] = [
    IN_PLACE,
    OUTPUT,
    INPUT_TYPE,
    OUTPUT_TYPE,
    ENCRYPTION_CONTEXT,
    ADD_GCP_KMS,
    RM_GCP_KMS,
    ADD_HCKMS,
    RM_HCKMS,
    ADD_AZURE_KV,
    RM_AZURE_KV,
    ADD_KMS,
    RM_KMS,
    ADD_HC_VAULT,
    RM_HC_VAULT,
    ADD_AGE,
    RM_AGE,
    ADD_PGP,
    RM_PGP,
    FILENAME_OVERRIDE,
    DECRYPTION_ORDER,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static EDIT: [Flag; 22] = [
    KMS,
    AWS_PROFILE,
    GCP_KMS,
    HCKMS,
    AZURE_KV,
    HC_VAULT,
    PGP,
    AGE,
    INPUT_TYPE,
    OUTPUT_TYPE,
    UNENCRYPTED_SUFFIX,
    ENCRYPTED_SUFFIX,
    UNENCRYPTED_REGEX,
    ENCRYPTED_REGEX,
    ENCRYPTION_CONTEXT,
    THRESHOLD,
    SHOW_MASTER_KEYS,
    IGNORE_MAC,
    DECRYPTION_ORDER,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static SET: [Flag; 11] = [
    INPUT_TYPE,
    OUTPUT_TYPE,
    VALUE_FILE,
    VALUE_STDIN,
    THRESHOLD,
    IGNORE_MAC,
    DECRYPTION_ORDER,
    IDEMPOTENT,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static UNSET: [Flag; 9] = [
    INPUT_TYPE,
    OUTPUT_TYPE,
    THRESHOLD,
    IGNORE_MAC,
    DECRYPTION_ORDER,
    IDEMPOTENT,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static PUBLISH: [Flag; 8] =
    [YES, OMIT_EXTENSIONS, RECURSIVE, VERBOSE, DECRYPTION_ORDER, LOCAL_KEYSERVICE, KEYSERVICE, HELP];

static SERVE: [Flag; 5] = [NETWORK, ADDRESS, PROMPT, VERBOSE, HELP];

static GROUPS_ADD: [Flag; 15] = [
    FILE,
    GROUP_PGP,
    GROUP_KMS,
    AWS_PROFILE,
    GROUP_GCP_KMS,
    GROUP_HCKMS,
    GROUP_AZURE_KV,
    GROUP_HC_VAULT,
    GROUP_AGE,
    IN_PLACE,
    THRESHOLD,
    ENCRYPTION_CONTEXT,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
];

static GROUPS_DELETE: [Flag; 6] = [FILE, IN_PLACE, THRESHOLD, LOCAL_KEYSERVICE, KEYSERVICE, HELP];

static GLOBAL: [Flag; 53] = [
    DECRYPT_MODE,
    ENCRYPT_MODE,
    ROTATE_MODE,
    NO_VERSION_CHECK,
    CHECK_FOR_UPDATES,
    KMS,
    AWS_PROFILE,
    GCP_KMS,
    HCKMS,
    AZURE_KV,
    HC_VAULT,
    PGP,
    AGE,
    IN_PLACE,
    EXTRACT,
    INPUT_TYPE,
    OUTPUT_TYPE,
    SHOW_MASTER_KEYS,
    ADD_GCP_KMS,
    RM_GCP_KMS,
    ADD_HCKMS,
    RM_HCKMS,
    ADD_AZURE_KV,
    RM_AZURE_KV,
    ADD_KMS,
    RM_KMS,
    ADD_HC_VAULT,
    RM_HC_VAULT,
    ADD_AGE,
    RM_AGE,
    ADD_PGP,
    RM_PGP,
    IGNORE_MAC,
    MAC_ONLY_ENCRYPTED,
    UNENCRYPTED_SUFFIX,
    ENCRYPTED_SUFFIX,
    UNENCRYPTED_REGEX,
    ENCRYPTED_REGEX,
    UNENCRYPTED_COMMENT_REGEX,
    ENCRYPTED_COMMENT_REGEX,
    CONFIG,
    ENCRYPTION_CONTEXT,
    SET_MODE,
    THRESHOLD,
    INDENT,
    VERBOSE,
    OUTPUT,
    FILENAME_OVERRIDE,
    DECRYPTION_ORDER,
    LOCAL_KEYSERVICE,
    KEYSERVICE,
    HELP,
    VERSION,
];
