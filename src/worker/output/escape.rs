//! Makes a line of a worker safe to show on a terminal.
//!
//! A worker, or whoever feeds it text, must not move the cursor, set the window's title or reverse the reading
//! order of an operator's terminal. Escaped text is visible, never silently removed. Files keep the bytes.

use std::fmt::Write as _;

/// The line as text: bytes that are no UTF-8, control characters and invisible characters that change the reading
/// order are shown as `\x1b` or `\u{202e}`; a tab stays.
///
/// ```
/// use regrow::worker::output::escape_for_terminal;
/// assert_eq!(escape_for_terminal(b"\x1b]0;pwned\x07"), r"\x1b]0;pwned\x07");
/// ```
#[must_use]
pub fn escape_for_terminal(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut text, c);
        }
        for byte in chunk.invalid() {
            push_code(&mut text, format_args!("\\x{byte:02x}"));
        }
    }
    text
}

fn push_char(text: &mut String, c: char) {
    match c {
        '\t' => text.push(c),
        _ if c.is_control() => push_code(text, format_args!("\\x{:02x}", u32::from(c))),
        _ if is_deceptive(c) => push_code(text, format_args!("\\u{{{:x}}}", u32::from(c))),
        _ => text.push(c),
    }
}

/// Marks of direction, line and paragraph separators, and characters without width (but the joiners, which emoji
/// and several scripts need).
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_code(text: &mut String, code: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = text.write_fmt(code);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_terminal_never_sees_what_could_command_it() {
        assert_eq!(escape_for_terminal(b"a\tb \xe2\x9c\x93 \xff\r"), "a\tb ✓ \\xff\\x0d");
        assert_eq!(escape_for_terminal("x\u{202e}y\u{9b}31m".as_bytes()), "x\\u{202e}y\\x9b31m");
    }

    proptest! {
        #[test]
        fn any_bytes_become_harmless_text(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = escape_for_terminal(&line);
            prop_assert!(!text.chars().any(|c| (c.is_control() && c != '\t') || is_deceptive(c)));
        }
    }
}
