//! What is bounded, and what stays linear.

use super::*;

#[test]
fn what_aliases_add_is_bounded() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(", "));
    }
    assert!(matches!(error(&bomb), Error::Limit { limit: limits::EXPANDED_NODES, .. }));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 65].join(", "));
    assert!(matches!(error(&long), Error::Limit { limit: limits::EXPANDED_BYTES, .. }));
    assert_eq!(error_line("a: 1\n---\nb: &b\n  - c: *b\n"), 4);
}

#[test]
fn comments_that_aliases_copy_are_bounded() {
    // One value with very many comments, and one with a very long one, each copied a thousand times and more.
    let many = format!("a: &a\n{}  k: v\n", "  # c\n".repeat(20_000));
    let long = format!("a: &a\n  # {}\n  k: v\n", "c".repeat(1 << 20));
    let foot = format!("a: &a\n  k: v\n{}\n", "  # c\n".repeat(20_000));
    let items = format!("a: &a\n  - x\n{}  - y\n", "  # c\n".repeat(20_000));
    let inline = format!("a: &a [\n{}x]\n", "x, # c\n".repeat(20_000));
    let start = std::time::Instant::now();
    let limited = |text: &str| assert!(matches!(error(text), Error::Limit { .. }), "{}", &text[..40]);
    limited(&format!("{many}b:\n{}", "  - <<: *a\n".repeat(1000)));
    for text in [many, long, foot, items, inline] {
        limited(&format!("{text}b: &b [{}]\nc: [*b, *b, *b, *b]\n", vec!["*a"; 50].join(", ")));
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn large_files_are_read_and_written_in_linear_time() {
    let mut text = String::new();
    for at in 0..20_000 {
        text += &format!("key{at}: [a, {{b: {at}}}] # comment\n");
    }
    text += &format!("flow: [{}]\n", "1, ".repeat(20_000));
    text += &format!("long: \"{}\"\n", "x y\\n".repeat(50_000));
    let start = std::time::Instant::now();
    let tree = load(&text);
    emit(&tree);
    // A quadratic step takes minutes here, a linear one a second even without optimisation.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
