//! civm from the outside: arguments in; exact output, exit codes and files out.

mod cli {
    mod frame;
}
mod support;
