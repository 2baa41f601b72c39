//! What a case is, and what its name says.

use crate::host::Host;

/// One clause. Its name says which: `rfc9293_3_10_7_4_must_20_...` is RFC 9293 3.10.7.4, MUST-20.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Host),
    pub(crate) families: Families,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 only: the clause is of IPv4, or says the same of both.
    V4,
    V6,
    /// Once on each.
    Both,
}

impl Case {
    /// RFC, section and requirement level, as its name says.
    pub(crate) fn clause(&self) -> String {
        let mut words = self.name.split('_').peekable();
        let rfc = words.next().unwrap_or_default().trim_start_matches("rfc");
        let mut numbers = Vec::new();
        while let Some(number) = words.next_if(|word| word.bytes().all(|b| b.is_ascii_digit())) {
            numbers.push(number);
        }
        let mut clause = format!("RFC {rfc} {}", numbers.join("."));
        if let Some(level) = words.next_if(|word| ["must", "should", "may"].contains(word)) {
            clause += &format!(" {}", level.to_uppercase());
            while let Some(number) = words.next_if(|word| word.bytes().all(|b| b.is_ascii_digit()))
            {
                clause += &format!("-{number}");
            }
        }
        clause
    }
}

/// A list of cases, which are functions of this name.
macro_rules! cases {
    ($families:ident: $($name:ident),+ $(,)?) => {
        &[$($crate::case::Case {
            name: stringify!($name),
            run: $name,
            families: $crate::case::Families::$families,
        }),+]
    };
}
pub(crate) use cases;
