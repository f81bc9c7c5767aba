//! civm from the outside: arguments in; exact output, exit codes and files out.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no users")]

mod cli {
    mod frame;
    mod keys;
    mod project;
    mod secrets;
}
mod support;
