//! `civm keys add` and `civm keys rm`.

use clap::Args;

/// `civm keys add`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The name becomes an anchor under `keys:`, and an alias in the rules. ssh ed25519 keys are written as the age
recipient that belongs to them. Every other byte of .sops.yaml stays as it is.

    civm keys add alice age1… --to 'hosts/web/secrets\\.yaml$'
    civm keys add bob ~/bob.pub --all && civm secrets update-all")]
pub struct Add {
    /// The key's name in .sops.yaml; one that is known already only goes into the rules
    pub name: String,
    /// age1…, ssh-… or the path of a public key (default: your own)
    #[arg(allow_hyphen_values = true)]
    pub recipient: Option<String>,
    /// Let it read the files of this rule: its path_regex, its number, or a file that it is for; may be repeated
    #[arg(long, value_name = "RULE", conflicts_with = "all")]
    pub to: Vec<String>,
    /// Let it read the files of every rule
    #[arg(long)]
    pub all: bool,
    /// The key group, from 1, where rules have several
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub group: Option<u16>,
}

/// `civm keys rm`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
It goes out of `keys:` and of every rule, in whatever form it stands there. The files still name it until
`civm secrets update-all`, and who could read them knows their data keys until those are made anew: civm offers both.")]
pub struct Rm {
    /// The key's name in .sops.yaml, or its recipient
    #[arg(value_name = "NAME|RECIPIENT")]
    pub key: String,
    /// Bring the files in line and give them new data keys without asking
    #[arg(short, long)]
    pub yes: bool,
}
