//! `civm secrets status`.

use std::path::Path;

use serde_json::json;

use super::failure::failure;
use crate::cli::secrets::Status;
use crate::commands::Context;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::session::read;
use crate::secrets::{Error, Session, status};
use crate::sops::metadata::Metadata;

pub(super) fn run(args: &Status, session: &Session, context: &Context) -> Outcome {
    let mut all_encrypted = true;
    let mut files = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for path in &args.files {
        let shown = path.display().to_string();
        match of(path, session) {
            Ok(Some(metadata)) => {
                let recipients = metadata.age_keys().count();
                let modified = metadata.last_modified.to_string();
                files.push(json!({
                    "path": shown,
                    "encrypted": true,
                    "recipients": recipients,
                    "last_modified": modified,
                    "version": metadata.version,
                }));
                if !args.json {
                    context.screen.line(format!(
                        "encrypted {shown}: {recipients} recipient(s), last changed {modified}"
                    ))?;
                }
            }
            Ok(None) => {
                all_encrypted = false;
                files.push(json!({ "path": shown, "encrypted": false }));
                if !args.json {
                    context.screen.line(format!("plain {shown}"))?;
                }
            }
            Err(error) => {
                files.push(json!({ "path": shown, "error": error.to_string() }));
                failures.push(failure(error));
            }
        }
    }
    if args.json {
        context.screen.line(json!({ "files": files }).to_string())?;
    }
    super::several(failures, args.files.len(), context)?;
    Ok(if all_encrypted { 0 } else { Code::Generic as u8 })
}

fn of(path: &Path, session: &Session) -> Result<Option<Metadata>, Error> {
    let text = read(path)?;
    status::metadata(&*session.store_of_encrypted(path, &text)?, path, &text)
}
