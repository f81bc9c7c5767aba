//! Arguments of `civm keys add` and `civm keys rm`.

use clap::Args;

/// `civm keys add`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The name becomes an anchor under `keys:` and an alias in the rules. An ssh ed25519 key is converted to its age \
recipient. Every other byte of .sops.yaml is kept.

    civm keys add alice age1… --to 'hosts/web/secrets\\.yaml$'
    civm keys add bob ~/bob.pub --all && civm secrets update-all")]
pub struct Add {
    /// The key's name in .sops.yaml; if the name exists already, its key is only added to the rules
    pub name: String,
    /// age1…, ssh-… or the path to a public key (default: your own key)
    #[arg(allow_hyphen_values = true)]
    pub recipient: Option<String>,
    /// Add the key to this rule, identified by its path_regex, its number, or a file that it matches; may be repeated
    #[arg(long, value_name = "RULE", conflicts_with = "all")]
    pub to: Vec<String>,
    /// Add the key to every rule
    #[arg(long)]
    pub all: bool,
    /// The key group, counted from 1, if rules have several
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub group: Option<u16>,
}

/// `civm keys rm`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The key is removed from `keys:` and from every rule, in whatever form it is written. It remains a recipient of existing files \
until you run `civm secrets update-all`, and anyone who could read a file may still know its data key until you run \
`civm secrets rotate`. civm offers to do both.")]
pub struct Rm {
    /// The key's name in .sops.yaml, or its recipient
    #[arg(value_name = "NAME|RECIPIENT")]
    pub key: String,
    /// Update the files and rotate their data keys without asking
    #[arg(short, long)]
    pub yes: bool,
}
