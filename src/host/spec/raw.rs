//! `host.yaml` as it is written: every key optional, no unknown one. `hosts/host.schema.json` describes the same
//! keys for editors, and a test compares the two.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Arch;
use super::units::{Either, Mode, Names, Period, Plain, Size};

/// A mapping whose entries can be taken away (`null`) by a host that extends another.
pub(super) type Mapping<V> = BTreeMap<String, Option<V>>;
/// One value, or one for each kind of machine.
pub(super) type ByArch<T> = Either<T, PerArch<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Host {
    pub(super) extends: Option<String>,
    pub(super) description: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) image: Option<Either<String, Image>>,
    pub(super) packages: Option<Vec<String>>,
    pub(super) machine: Option<ByArch<String>>,
    pub(super) cpus: Option<ByArch<u32>>,
    pub(super) memory: Option<ByArch<Size>>,
    pub(super) disk: Option<ByArch<Size>>,
    pub(super) forwards: Option<Names<Plain, Plain>>,
    pub(super) network: Option<String>,
    pub(super) secrets: Option<Names<String, Secret>>,
    pub(super) templates: Option<Mapping<Either<String, Template>>>,
    pub(super) users: Option<Mapping<User>>,
    pub(super) services: Option<Names<String, Service>>,
    pub(super) units: Option<Mapping<Either<String, Unit>>>,
    pub(super) files: Option<Mapping<Either<String, File>>>,
    pub(super) artifacts: Option<Mapping<Artifact>>,
    pub(super) sysctls: Option<Mapping<Plain>>,
    pub(super) zram: Option<Either<bool, Zram>>,
    pub(super) nix: Option<Nix>,
    pub(super) known_hosts: Option<Mapping<Either<String, Vec<String>>>>,
    pub(super) hostname: Option<String>,
    pub(super) timezone: Option<String>,
    pub(super) console_login: Option<bool>,
    pub(super) console_log: Option<String>,
    pub(super) source: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct PerArch<T> {
    pub(super) x86_64: Option<T>,
    pub(super) aarch64: Option<T>,
}

impl<T> PerArch<T> {
    pub(super) fn of(self, arch: Arch) -> Option<T> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Image {
    pub(super) provider: Option<String>,
    pub(super) suite: Option<String>,
    pub(super) flake: Option<String>,
    pub(super) configuration: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Secret {
    pub(super) file: Option<String>,
    pub(super) format: Option<String>,
    pub(super) key: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) mode: Option<Mode>,
    pub(super) path: Option<String>,
    pub(super) restart_units: Option<Vec<String>>,
    pub(super) reload_units: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Template {
    pub(super) content: Option<String>,
    pub(super) file: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) mode: Option<Mode>,
    pub(super) path: Option<String>,
    pub(super) restart_units: Option<Vec<String>>,
    pub(super) reload_units: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct User {
    pub(super) uid: Option<u32>,
    pub(super) groups: Option<Vec<String>>,
    pub(super) shell: Option<String>,
    pub(super) authorized_keys: Option<Vec<String>>,
    pub(super) sudo: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Unit {
    pub(super) text: Option<String>,
    pub(super) start: Option<bool>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Service {
    pub(super) description: Option<String>,
    pub(super) run: Option<String>,
    pub(super) needs: Option<Either<String, Vec<String>>>,
    pub(super) before: Option<Either<String, Vec<String>>>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) environment: Option<Mapping<Plain>>,
    pub(super) state_directory: Option<String>,
    pub(super) working_directory: Option<String>,
    pub(super) after: Option<Vec<String>>,
    pub(super) start: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Artifact {
    pub(super) url: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) from: Option<String>,
    pub(super) mode: Option<Mode>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) restart_units: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct File {
    pub(super) text: Option<String>,
    pub(super) mode: Option<Mode>,
    pub(super) restart_units: Option<Vec<String>>,
    pub(super) reload_units: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Zram {
    pub(super) percent: Option<u32>,
    pub(super) algorithm: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Nix {
    pub(super) trusted_users: Option<Vec<String>>,
    pub(super) max_jobs: Option<Plain>,
    pub(super) substituters: Option<Vec<String>>,
    pub(super) trusted_public_keys: Option<Vec<String>>,
    pub(super) experimental_features: Option<Vec<String>>,
    pub(super) sandbox: Option<bool>,
    pub(super) builders_use_substitutes: Option<bool>,
    pub(super) connect_timeout: Option<u32>,
    pub(super) log_lines: Option<u32>,
    pub(super) min_free: Option<Plain>,
    pub(super) max_free: Option<Plain>,
    pub(super) cores: Option<Plain>,
    pub(super) system_features: Option<Vec<String>>,
    pub(super) extra_platforms: Option<Vec<String>>,
    pub(super) extra: Option<Vec<String>>,
    pub(super) builders: Option<Mapping<Builder>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Builder {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) systems: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) key: Option<String>,
    pub(super) max_jobs: Option<Plain>,
    pub(super) speed: Option<u32>,
    pub(super) features: Option<Either<String, Vec<String>>>,
    pub(super) mandatory_features: Option<Vec<String>>,
    pub(super) public_key: Option<String>,
    pub(super) deploy: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) on: Option<String>,
    pub(super) on_key: Option<String>,
    pub(super) on_public_key: Option<String>,
    pub(super) start: Option<String>,
    pub(super) require: Option<String>,
    pub(super) idle: Option<Period>,
    pub(super) hold: Option<Period>,
    pub(super) ttl: Option<Period>,
    pub(super) drain: Option<Period>,
    pub(super) run_with: Option<Vec<String>>,
}

/// Each mapping with fixed keys: where the schema describes it, and the keys that the type above has.
#[cfg(test)]
pub(in crate::host) fn shapes() -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("", keys::<Host>()),
        ("/definitions/by_arch_machine/oneOf/1", keys::<PerArch<String>>()),
        ("/definitions/by_arch_count/oneOf/1", keys::<PerArch<u32>>()),
        ("/definitions/by_arch_size/oneOf/1", keys::<PerArch<u32>>()),
        ("/definitions/image", keys::<Image>()),
        ("/definitions/secret", keys::<Secret>()),
        ("/definitions/template", keys::<Template>()),
        ("/definitions/user", keys::<User>()),
        ("/definitions/unit", keys::<Unit>()),
        ("/definitions/service", keys::<Service>()),
        ("/definitions/artifact", keys::<Artifact>()),
        ("/definitions/file", keys::<File>()),
        ("/definitions/zram", keys::<Zram>()),
        ("/definitions/nix", keys::<Nix>()),
        ("/definitions/builder", keys::<Builder>()),
    ]
}

/// The keys of a type: those that its own error message offers for one that it does not know.
#[cfg(test)]
fn keys<T: serde::de::DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    let message = serde_yaml::from_str::<T>("\"?\": 0").expect_err("an unknown key").to_string();
    let offered = message.split_once("expected ").expect("what is expected").1;
    offered.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
