//! The paths that a Rust source names, wherever they stand: in `use` lines at the top or inside functions, in
//! groups, in macros, behind `super` and `self`.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path, name by name. Behind `crate`, `super` or `self` it starts with `crate`.
pub type Named = Vec<String>;

/// Every path that the source of a module names, without those of its inline tests.
///
/// `module` is where the source stands below the crate: `src/edge/walk/scope.rs` is `edge`, `walk`, `scope`.
pub fn of(source: &str, module: &[String]) -> Vec<Named> {
    let tokens = TokenStream::from_str(source).expect("a source that compiles is made of tokens");
    let mut found = Vec::new();
    walk(&tokens.into_iter().collect::<Vec<_>>(), module, &mut found);
    found
}

fn walk(tokens: &[TokenTree], module: &[String], found: &mut Vec<Named>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(_) if inline_module(tokens, at).is_some() => {
                if let Some((name, body)) = inline_module(tokens, at)
                    && !is_for_tests(&tokens[..at])
                {
                    walk(&body, &[module, &[name]].concat(), found);
                }
                at += 3;
            }
            // What follows `::` is the rest of a path that was read already; a visibility names nobody.
            TokenTree::Ident(_) if !follows_colons(tokens, at) && !is_visibility(tokens, at) => {
                at = path(tokens, at, &[], module, found);
            }
            TokenTree::Group(group) => {
                walk(&group.stream().into_iter().collect::<Vec<_>>(), module, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Reads the path that starts here, with all that a group at its end names. Gives the place behind it.
fn path(
    tokens: &[TokenTree],
    mut at: usize,
    before: &[String],
    module: &[String],
    found: &mut Vec<Named>,
) -> usize {
    let mut names = before.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => names.push(name.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' && at > 0 && is_colons(tokens, at - 2) => {
                names.push("*".to_owned());
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace && !names.is_empty() => {
                members(&group.stream().into_iter().collect::<Vec<_>>(), &names, module, found);
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !is_colons(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push(absolute(&names, module));
    at
}

/// The members of a group of a `use` line, a path each.
fn members(tokens: &[TokenTree], before: &[String], module: &[String], found: &mut Vec<Named>) {
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
    for member in tokens.split(is_comma) {
        match member.first() {
            Some(TokenTree::Ident(name)) if name == "self" => found.push(absolute(before, module)),
            Some(_) => {
                path(member, 0, before, module, found);
            }
            None => {}
        }
    }
}

/// The path from the crate on, where it starts with `crate`, `super` or `self`.
fn absolute(names: &[String], module: &[String]) -> Named {
    let ups = names.iter().take_while(|name| *name == "super" || *name == "self").collect::<Vec<_>>();
    if ups.is_empty() {
        return names.to_vec();
    }
    let supers = ups.iter().filter(|name| **name == "super").count();
    let kept = module.len().saturating_sub(supers);
    let mut whole = vec!["crate".to_owned()];
    whole.extend_from_slice(&module[..kept]);
    whole.extend_from_slice(&names[ups.len()..]);
    whole
}

/// `mod name { … }` at a place.
fn inline_module(tokens: &[TokenTree], at: usize) -> Option<(String, Vec<TokenTree>)> {
    match tokens.get(at..at + 3)? {
        [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body)]
            if word == "mod" && body.delimiter() == Delimiter::Brace =>
        {
            Some((name.to_string(), body.stream().into_iter().collect()))
        }
        _ => None,
    }
}

/// Whether what stands before a module ends in `#[cfg(test)]`.
fn is_for_tests(before: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(attribute)) = before.last() else { return false };
    attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

fn is_visibility(tokens: &[TokenTree], at: usize) -> bool {
    tokens.len() == 1 && ["crate", "super", "self"].iter().any(|word| tokens[at].to_string() == *word)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(at) && colon(at + 1)
}

fn follows_colons(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_colons(tokens, at - 2)
}

#[test]
fn every_form_of_a_path_is_seen() {
    let module = ["edge".to_owned(), "walk".to_owned()];
    let source = r##"
        use crate::sops::tree;
        use crate::{edge::atomic, keys::{self, ssh}, store::{a, b}};
        use super::super::rules;
        use super::super::{host::{spec, self}};
        pub(crate) fn f() {
            use super::super::image::cache;
            crate::vm::argv();
            super::lock::take();
            self::scope::read();
            vec![crate::guest::agent(), format!("{}", super::super::instance::plan())];
            "crate::no::string"; // crate::no::comment
        }
        mod inner { use super::super::super::builder; use super::near; }
        #[cfg(test)]
        mod tests { use crate::commands; }
    "##;
    let mut found: Vec<String> =
        of(source, &module).iter().filter(|path| path[0] == "crate").map(|path| path.join("::")).collect();
    found.sort();
    let mut wanted = [
        "crate::sops::tree",
        "crate::edge::atomic",
        "crate::keys",
        "crate::keys::ssh",
        "crate::store::a",
        "crate::store::b",
        "crate::rules",
        "crate::host",
        "crate::host::spec",
        "crate::image::cache",
        "crate::vm::argv",
        "crate::edge::lock::take",
        "crate::edge::walk::scope::read",
        "crate::guest::agent",
        "crate::instance::plan",
        "crate::builder",
        "crate::edge::walk::near",
    ];
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}
