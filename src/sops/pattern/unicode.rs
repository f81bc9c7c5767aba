//! The names of `\p{…}` that Go knows.

use super::escape::Part;

/// General categories by their code.
const CATEGORIES: &str = "C Cc Cf Cn Co Cs L Lc Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc \
    Sk Sm So Z Zl Zp Zs";

/// Long names of categories, as Go spells names for its look-up, with their codes.
const LONG_NAMES: [(&str, &str); 42] = [
    ("Casedletter", "LC"),
    ("Closepunctuation", "Pe"),
    ("Cntrl", "Cc"),
    ("Combiningmark", "M"),
    ("Connectorpunctuation", "Pc"),
    ("Control", "Cc"),
    ("Currencysymbol", "Sc"),
    ("Dashpunctuation", "Pd"),
    ("Decimalnumber", "Nd"),
    ("Digit", "Nd"),
    ("Enclosingmark", "Me"),
    ("Finalpunctuation", "Pf"),
    ("Format", "Cf"),
    ("Initialpunctuation", "Pi"),
    ("Letter", "L"),
    ("Letternumber", "Nl"),
    ("Lineseparator", "Zl"),
    ("Lowercaseletter", "Ll"),
    ("Mark", "M"),
    ("Mathsymbol", "Sm"),
    ("Modifierletter", "Lm"),
    ("Modifiersymbol", "Sk"),
    ("Nonspacingmark", "Mn"),
    ("Number", "N"),
    ("Openpunctuation", "Ps"),
    ("Other", "C"),
    ("Otherletter", "Lo"),
    ("Othernumber", "No"),
    ("Otherpunctuation", "Po"),
    ("Othersymbol", "So"),
    ("Paragraphseparator", "Zp"),
    ("Privateuse", "Co"),
    ("Punct", "P"),
    ("Punctuation", "P"),
    ("Separator", "Z"),
    ("Spaceseparator", "Zs"),
    ("Spacingmark", "Mc"),
    ("Surrogate", "Cs"),
    ("Symbol", "S"),
    ("Titlecaseletter", "Lt"),
    ("Unassigned", "Cn"),
    ("Uppercaseletter", "Lu"),
];

/// Scripts whose names are one word. Go drops the underscores of the others before it looks them up,
/// and so never finds them.
const SCRIPTS: &str = "Adlam Ahom Arabic Armenian Avestan Balinese Bamum Batak Bengali Bhaiksuki Bopomofo Brahmi \
    Braille Buginese Buhid Carian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cyrillic \
    Deseret Devanagari Dogra Duployan Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek \
    Gujarati Gurmukhi Han Hangul Hanunoo Hatran Hebrew Hiragana Inherited Javanese Kaithi Kannada Katakana \
    Kawi Kharoshthi Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Lisu Lycian Lydian Mahajani Makasar \
    Malayalam Mandaic Manichaean Marchen Medefaidrin Miao Modi Mongolian Mro Multani Myanmar Nabataean \
    Nandinagari Newa Nko Nushu Ogham Oriya Osage Osmanya Palmyrene Phoenician Rejang Runic Samaritan \
    Saurashtra Sharada Shavian Siddham Sinhala Sogdian Soyombo Sundanese Syriac Tagalog Tagbanwa Takri Tamil \
    Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Yezidi Yi";

/// The class of a name; `None` where Go knows no such name.
pub(super) fn class(name: &str, negated: bool) -> Option<Part> {
    let name = canonical(name);
    let sign = if negated { 'P' } else { 'p' };
    let opposite = if negated { 'p' } else { 'P' };
    let text = match name.as_str() {
        "Any" if negated => return Some(Part::nothing()),
        "Any" => r"\x{0}-\x{10FFFF}".to_owned(),
        "Ascii" if negated => r"[^\x00-\x7F]".to_owned(),
        "Ascii" => r"\x00-\x7F".to_owned(),
        "Assigned" => format!(r"\{opposite}{{gc=Cn}}"),
        name if CATEGORIES.split_whitespace().any(|known| known == name) => category(name, negated),
        name if SCRIPTS.split_whitespace().any(|known| known == name) => format!(r"\{sign}{{sc={name}}}"),
        name => category(LONG_NAMES.iter().find(|(known, _)| *known == name)?.1, negated),
    };
    Some(Part(text))
}

fn category(code: &str, negated: bool) -> String {
    match (code, negated) {
        // No character of a text is a surrogate.
        ("Cs", false) => Part::nothing().0,
        ("Cs", true) => r"\x{0}-\x{10FFFF}".to_owned(),
        (_, false) => format!(r"\p{{gc={code}}}"),
        (_, true) => format!(r"\P{{gc={code}}}"),
    }
}

/// Go's spelling of a name for the look-up: one capital, no underscores, hyphens or spaces.
fn canonical(name: &str) -> String {
    let mut canonical = String::with_capacity(name.len());
    for letter in name.chars().filter(|letter| !matches!(letter, '_' | '-' | ' ')) {
        let first = canonical.is_empty();
        canonical.push(if first { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() });
    }
    canonical
}
