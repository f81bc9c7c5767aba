//! Checks that the guest will have the users, groups, login shells and the time zone named in host.yaml.

use std::collections::BTreeSet;

use crate::edge::account;
use crate::host::error::alike;
use crate::host::rootfs::Entry;
use crate::host::spec::Spec;
use crate::image::{Contents, Image};
use crate::lifecycle::{Error, Observer, Progress};

/// Paths where files that a host lays over its image can define accounts or add programs of their own.
const OWN_ACCOUNTS: [&str; 4] = ["etc/passwd", "etc/group", "etc/sysusers.d/", "usr/lib/sysusers.d/"];

/// Refuses to start a new machine that would fail because of a name in host.yaml. With an existing disk this is only a
/// warning: somebody may have installed there what the image lacks.
pub(super) fn check(
    spec: &Spec,
    image: &Image,
    rootfs: &[Entry],
    disk_exists: bool,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let laid_over = laid_over(spec, rootfs);
    let problems = problems(spec, &image.contents, &laid_over);
    if problems.is_empty() {
        return Ok(());
    }
    if disk_exists || laid_over.iter().any(|path| OWN_ACCOUNTS.iter().any(|own| path.starts_with(own))) {
        for problem in problems {
            let warning = format!("{problem}, unless it was installed on the disk");
            observer.tell(Progress::Warning(warning));
        }
        return Ok(());
    }
    Err(Error::Accounts { host: spec.name.clone(), problems })
}

/// The files that the host lays over its image, by rootfs/ and by `files`, as paths below the root.
fn laid_over(spec: &Spec, rootfs: &[Entry]) -> BTreeSet<String> {
    let rootfs = rootfs.iter().map(|entry| entry.path.to_string_lossy().into_owned());
    let all = rootfs.chain(spec.files.keys().cloned());
    all.map(|path| path.trim_start_matches('/').to_owned()).collect()
}

fn problems(spec: &Spec, contents: &Contents, laid_over: &BTreeSet<String>) -> Vec<String> {
    let users: BTreeSet<&str> = account::users(&contents.passwd)
        .map(|user| user.name)
        .chain(spec.users.iter().map(|user| user.name.as_str()))
        .collect();
    let groups: BTreeSet<&str> = account::groups(&contents.group)
        .map(|group| group.name)
        .chain(spec.users.iter().flat_map(|user| user.groups.iter().chain([&user.name]).map(String::as_str)))
        .chain(["keys"])
        .collect();
    let mut out = Vec::new();
    let secrets = spec.secrets.iter().map(|secret| ("secret", &secret.name, &secret.owner, &secret.group));
    let templates = spec.templates.iter().map(|one| ("template", &one.name, &one.owner, &one.group));
    for (kind, of, owner, group) in secrets.chain(templates) {
        let named = [("user", owner, &users), ("group", group, &groups)];
        for (what, name, known) in named {
            // A number is used as given.
            if !known.contains(name.as_str()) && name.parse::<u32>().is_err() {
                let meant = alike(name, known.iter().copied());
                let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
                out.push(format!("{kind} `{of}`: the guest has no {what} `{name}`{meant}"));
            }
        }
    }
    if let (Some(zone), Some(zones)) = (&spec.timezone, &contents.zones)
        && !zones.contains(zone)
        && !laid_over.contains(&format!("usr/share/zoneinfo/{zone}"))
    {
        let meant = alike(zone, zones.iter().map(String::as_str));
        let meant = meant.map_or("; the package tzdata brings them".to_owned(), |meant| {
            format!("; did you mean `{meant}`?")
        });
        out.push(format!("timezone: the guest has no time zone `{zone}`{meant}"));
    }
    for artifact in spec.artifacts.iter().map(|artifact| &artifact.layer) {
        for (what, name, known) in [("user", &artifact.owner, &users), ("group", &artifact.group, &groups)] {
            if !known.contains(name.as_str()) {
                out.push(format!("artifact `{}`: the guest has no {what} `{name}`", artifact.path));
            }
        }
    }
    let has = |shell: &str| contents.has_program(shell) || laid_over.contains(shell.trim_start_matches('/'));
    for user in spec.users.iter().filter(|user| !has(&user.shell)) {
        out.push(format!("user `{}`: the guest has no {}", user.name, user.shell));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layer::User;
    use crate::host::rootfs::Kind;
    use crate::host::spec::Secret;

    fn problems_of(owner: &str, group: &str, shell: &str) -> Vec<String> {
        problems_in_zone(owner, group, shell, None)
    }

    fn problems_in_zone(owner: &str, group: &str, shell: &str, zone: Option<&str>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("hosts/x")).unwrap();
        std::fs::write(dir.path().join("hosts/x/host.yaml"), "").unwrap();
        let project = crate::host::Project::at(dir.path()).unwrap();
        let mut spec = project.load("x", crate::host::spec::Arch::X86_64).unwrap();
        spec.users = vec![User {
            name: "alice".into(),
            groups: vec!["ops".into()],
            shell: shell.into(),
            ..User::default()
        }];
        spec.secrets = vec![Secret {
            file: None,
            format: crate::store::Format::Yaml,
            name: "s".into(),
            key: "s".into(),
            owner: owner.into(),
            group: group.into(),
            mode: 0o400,
            path: None,
            restart_units: Vec::new(),
            reload_units: Vec::new(),
        }];
        spec.timezone = zone.map(str::to_owned);
        let contents = Contents {
            zones: (zone != Some("Not/Known")).then(|| ["Europe/Helsinki", "UTC"].map(str::to_owned).into()),
            passwd: "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/\n".into(),
            group: "root:x:0:\nadm:x:4:\n".into(),
            programs: ["usr/bin/sh", "bin/rbash", "usr/local/bin/own"].map(str::to_owned).into(),
        };
        let own = |path: &str| Entry { path: path.into(), mode: 0o755, kind: Kind::File(Vec::new()) };
        let own = ["opt/own/shell", "usr/share/zoneinfo/Own/Zone"].map(own);
        problems(&spec, &contents, &laid_over(&spec, &own))
    }

    #[test]
    fn a_time_zone_is_one_of_the_images_or_the_hosts_own() {
        let problems = |zone| problems_in_zone("root", "root", "/bin/sh", Some(zone));
        for zone in ["UTC", "Europe/Helsinki", "Own/Zone", "Not/Known"] {
            assert_eq!(problems(zone), [""; 0], "{zone}");
        }
        assert_eq!(
            problems("Europe/Helsinky"),
            ["timezone: the guest has no time zone `Europe/Helsinky`; did you mean `Europe/Helsinki`?"]
        );
        assert!(problems("Mars")[0].ends_with("`Mars`; the package tzdata brings them"));
    }

    #[test]
    fn accounts_of_host_yaml_and_of_the_image_are_known() {
        for (owner, group) in
            [("root", "root"), ("alice", "alice"), ("www-data", "ops"), ("4001", "adm"), ("root", "keys")]
        {
            assert_eq!(problems_of(owner, group, "/bin/sh"), [""; 0], "{owner} {group}");
        }
        assert_eq!(
            problems_of("alcie", "root", "/bin/sh"),
            ["secret `s`: the guest has no user `alcie`; did you mean `alice`?"]
        );
        assert_eq!(problems_of("root", "wheel", "/bin/sh"), ["secret `s`: the guest has no group `wheel`"]);
    }

    #[test]
    fn a_shell_is_one_of_the_images_programs_wherever_its_directories_are_merged() {
        for shell in ["/bin/sh", "/usr/bin/sh", "/usr/bin/rbash", "/usr/local/bin/own", "/opt/own/shell"] {
            assert_eq!(problems_of("root", "root", shell), [""; 0], "{shell}");
        }
        assert_eq!(problems_of("root", "root", "/bin/zsh"), ["user `alice`: the guest has no /bin/zsh"]);
    }
}
