//! `civm cp SOURCE… TARGET`, with INSTANCE:PATH for a path in a guest.

use std::ffi::OsString;

use super::Context;
use super::instance::{Target, instance_failure};
use super::ssh::code;
use crate::cli::instance::Cp;
use crate::cli::values::Endpoint;
use crate::outcome::{Code, Failure, Outcome};

/// Copies through scp, with the pinned host key.
pub(super) fn run(args: &Cp, context: &Context) -> Outcome {
    let mut names = args.paths.iter().filter_map(|path| path.instance.as_ref());
    let wrong = |message: &str| Err(Failure::new(Code::CouldNotReadInput, message));
    let Some(name) = names.next() else {
        return wrong("neither side is a path in an instance: write INSTANCE:PATH");
    };
    if names.any(|other| other != name) {
        return wrong("two instances: copy to this machine first, and from here to the other one");
    }
    let target = Target::find(name, context)?;
    let login = target.login(&args.login, context)?;
    let paths: Vec<OsString> = args.paths.iter().map(|path| spelled(path, login.destination())).collect();
    login.copy(&paths, &context.environment).map_err(instance_failure).map(code)
}

/// A path as scp takes it. One of this machine begins with `./` or `/`, so that it is never taken for an option or
/// another host's.
fn spelled(endpoint: &Endpoint, host: String) -> OsString {
    match &endpoint.instance {
        Some(_) => format!("{host}:{}", endpoint.path).into(),
        None if endpoint.path.starts_with(['/', '.']) => endpoint.path.clone().into(),
        None => format!("./{}", endpoint.path).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::spelled;
    use crate::cli::values::Endpoint;

    #[test]
    fn a_path_of_this_machine_is_no_option_and_no_host() {
        let local =
            |path: &str| spelled(&Endpoint { instance: None, path: path.to_owned() }, "127.0.0.1".to_owned());
        assert_eq!([local("-r"), local("/a"), local("../b")], ["./-r", "/a", "../b"]);
        let remote = Endpoint { instance: Some("web".to_owned()), path: "/etc/x y".to_owned() };
        assert_eq!(spelled(&remote, "127.0.0.1".to_owned()), "127.0.0.1:/etc/x y");
    }
}
