//! age's questions, passed on to a prompt.

use std::sync::Arc;

use age::secrecy::SecretString;

use crate::edge::terminal::Prompt;

/// Forwards a plugin's questions to the prompt; age treats a question without an answer as refused.
#[derive(Clone)]
pub(crate) struct Asking(Arc<dyn Prompt>);

impl Asking {
    pub(crate) fn new(prompt: Arc<dyn Prompt>) -> Self {
        Self(prompt)
    }
}

impl age::Callbacks for Asking {
    fn display_message(&self, message: &str) {
        self.0.tell(message);
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let choice = no.map_or_else(|| yes.to_owned(), |no| format!("{yes} or {no}"));
        self.0.confirm(&format!("{message} ({choice})"), false).ok()
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.0.line(&format!("{description} ")).ok()
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        let mut passphrase = self.0.passphrase(description).ok()?;
        // The string moves into a type that wipes it; nothing is copied.
        Some(SecretString::from(std::mem::take(&mut *passphrase)))
    }
}
