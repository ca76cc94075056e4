//! Texts in quotes, as JSON and JavaScript have them.

use super::broken::Broken;

/// The text that begins here with a quote, and how long it is with its quotes.
///
/// # Errors
/// Where it goes wrong, counted from its beginning.
pub(super) fn read(source: &str) -> Result<(String, usize), Broken> {
    let mut chars = source.char_indices();
    let Some((_, quote)) = chars.next() else { return Ok((String::new(), 0)) };
    let mut out = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((out, at + 1)),
            '\n' if quote != '`' => break,
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, 'b')) => out.push('\u{8}'),
                Some((_, 'f')) => out.push('\u{c}'),
                Some((_, '\n')) => {}
                Some((at, 'u')) => {
                    let digits = source.get(at + 1..at + 5).unwrap_or_default();
                    let Some(code) = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4)
                    else {
                        return Err(Broken::new(at, "`\\u` wants four digits behind it"));
                    };
                    let (c, length) = unescaped(code, source.get(at + 5..).unwrap_or_default());
                    out.push(c);
                    for _ in 0..length {
                        chars.next();
                    }
                }
                Some((_, other)) => out.push(other),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(Broken::new(0, "this text has no end").help(format!("close it with `{quote}`")))
}

/// The character of `\u` and four digits, and how many characters that takes. One beyond the first 65,536 is written as
/// two of them; half of it alone is none.
fn unescaped(code: u32, rest: &str) -> (char, usize) {
    let lone = (char::from_u32(code).unwrap_or('\u{fffd}'), 4);
    if !(0xd800..0xdc00).contains(&code) {
        return lone;
    }
    let low = rest.strip_prefix("\\u").and_then(|rest| u32::from_str_radix(rest.get(..4)?, 16).ok());
    let low = low.filter(|low| (0xdc00..0xe000).contains(low));
    let both = low.and_then(|low| char::from_u32(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)));
    both.map_or(lone, |c| (c, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_unfolded_and_an_open_end_is_told() {
        assert_eq!(read("\"a\\n\\u00e4\\\"\" rest"), Ok(("a\nä\"".to_owned(), 13)));
        assert_eq!(read("\"\\ud83d\\ude00!\""), Ok(("\u{1f600}!".to_owned(), 15)));
        assert_eq!(read("\"\\ud83dx\""), Ok(("\u{fffd}x".to_owned(), 9)));
        assert_eq!(read("'it' x"), Ok(("it".to_owned(), 4)));
        assert_eq!(read("`a\nb`"), Ok(("a\nb".to_owned(), 5)));
        for (text, at) in [("'a\n'", 0), ("\"a", 0), ("\"\\u12\"", 2), ("'a\\", 0)] {
            assert_eq!(read(text).map_err(|broken| broken.at), Err(at), "{text}");
        }
    }
}
