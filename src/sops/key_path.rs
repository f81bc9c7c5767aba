//! The address of a value in a document: `["a"][0]`.

use std::fmt;

use super::text::Text;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(Text),
    /// A position in a list, from 0. Comments count, as sops counts them.
    Index(usize),
}

/// Steps from the root of a document; none is the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The steps, from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl From<Vec<Step>> for KeyPath {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "[\"{}\"]", String::from_utf8_lossy(key.as_bytes()).escape_debug()),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the top level");
        }
        self.0.iter().try_for_each(|step| step.fmt(f))
    }
}
use super::tree::{Item,Key,Value};use super::error::Error;
impl KeyPath {
    /// tmp
    pub fn parse(text:&str)->Result<Self,Error>{ let mut v=vec![]; for p in text.split('[').skip(1){ let p=p.strip_suffix(']').ok_or(Error::Shamir("bad"))?; if p.starts_with('"'){v.push(Step::Key(p.trim_matches('"').into()))}else{v.push(Step::Index(p.parse().map_err(|_|Error::Shamir("bad"))?))}} if !text.starts_with('['){return Err(Error::Shamir("bad"))} Ok(Self(v))}
    /// tmp
    pub fn get<'a>(&self,b:&'a [Item])->Result<&'a Value,Error>{ let mut cur:Option<&'a Value>=None; for s in &self.0 { let nf=Error::MetadataNotFound; cur=Some(match (s,cur){ (Step::Key(k),None)=>b.iter().find_map(|i|match i{Item::Entry(Key::Str(n),v) if n==k=>Some(v),_=>None}).ok_or(nf)?, (Step::Key(k),Some(Value::Map(b)))=>b.iter().find_map(|i|match i{Item::Entry(Key::Str(n),v) if n==k=>Some(v),_=>None}).ok_or(nf)?,(Step::Index(i),Some(Value::List(l)))=>l.get(*i).ok_or(nf)?,_=>return Err(nf)})} cur.ok_or(Error::MetadataNotFound)}
}
