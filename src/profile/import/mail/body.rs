//! The text of a mail: which of its parts it is, in which charset, and its lines.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Encoding as TransferEncoding, Message, MessagePart, MimeHeaders, PartType};

use super::html;
use super::line::{Line, LinePlace};

/// The lines of a mail. HTML comes before plain text, because its structure tells what is quoted, unless it is empty.
pub(super) fn lines(message: &Message) -> Vec<Line> {
    let of = |parts: &[u32]| {
        let mut lines: Vec<Line> = Vec::new();
        for part in parts.iter().filter_map(|&id| message.part(id)) {
            if !lines.is_empty() {
                lines.push(Line::new("", LinePlace::Own));
            }
            lines.extend(part_lines(message, part));
        }
        lines
    };
    let html = of(&message.html_body);
    if html.iter().any(|line| !line.is_blank()) {
        return html;
    }
    of(&message.text_body)
}

fn part_lines(message: &Message, part: &MessagePart) -> Vec<Line> {
    let is_html = match part.body {
        PartType::Html(_) => true,
        PartType::Text(_) => false,
        _ => return Vec::new(),
    };
    let text = part_text(message, part);
    if is_html {
        let mut lines = html::lines(&text);
        // Some programs write marks of quotation into HTML.
        for line in lines.iter_mut().filter(|line| line.is_own()) {
            if let (depth @ 1.., rest) = quoted(&line.text) {
                *line = Line::new(rest, LinePlace::Quoted(depth));
            }
        }
        return lines;
    }
    let has = |name: &str, value: &str| {
        let attribute = part.content_type().and_then(|kind| kind.attribute(name));
        attribute.is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    plain_lines(
        without_pgp(&text),
        has("format", "flowed"),
        has("delsp", "yes"),
    )
}

/// The lines of a plain text, with the depth of their quotation. In a text that `is_flowed` (RFC 3676), a line that ends
/// with a blank goes on in the next one; with `is_delsp` that blank is not part of the text.
pub(super) fn plain_lines(text: &str, is_flowed: bool, is_delsp: bool) -> Vec<Line> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines = text.trim_matches('\n').split('\n').map(|line| {
        let (depth, mut rest) = quoted(line);
        if is_flowed && depth == 0 {
            rest = rest.strip_prefix(' ').unwrap_or(rest);
        }
        let is_soft = is_flowed && rest.ends_with(' ') && rest != "-- ";
        if is_soft && is_delsp {
            rest = &rest[..rest.len() - 1];
        }
        let place = if depth == 0 {
            LinePlace::Own
        } else {
            LinePlace::Quoted(depth)
        };
        Line {
            is_soft,
            ..Line::new(rest, place)
        }
    });
    lines.collect()
}

/// How often a line is quoted, by `>`, and the text after these marks.
fn quoted(line: &str) -> (usize, &str) {
    let mut rest = line
        .strip_prefix(' ')
        .filter(|rest| rest.starts_with('>'))
        .unwrap_or(line);
    let mut depth = 0;
    while let Some(after) = rest.strip_prefix('>') {
        depth += 1;
        let next = after.strip_prefix(' ').unwrap_or(after);
        rest = if next.starts_with('>') { next } else { after };
    }
    if depth == 0 {
        return (0, line);
    }
    (depth, rest.strip_prefix(' ').unwrap_or(rest))
}

/// The text that is signed by PGP, without the marks around it.
fn without_pgp(text: &str) -> &str {
    const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
    let Some(signed) = text.trim_start().strip_prefix(BEGIN) else {
        return text;
    };
    let end = signed.find("-----BEGIN PGP SIGNATURE-----");
    let signed = &signed[..end.unwrap_or(signed.len())];
    // The hash's name ends with an empty line.
    let head = signed
        .find("\n\n")
        .map(|at| at + 2)
        .or(signed.find("\r\n\r\n").map(|at| at + 4));
    &signed[head.unwrap_or_default()..]
}

/// The text of a part: in its charset, or in the one that its bytes are in if none is stated or another one is.
fn part_text<'a>(message: &'a Message, part: &'a MessagePart) -> Cow<'a, str> {
    let start = part.raw_body_offset() as usize;
    let raw = message
        .raw_message()
        .get(start..part.raw_end_offset() as usize);
    let bytes = raw.and_then(|raw| match part.encoding {
        TransferEncoding::None => Some(Cow::Borrowed(raw)),
        TransferEncoding::QuotedPrintable => quoted_printable_decode(raw).map(Cow::Owned),
        TransferEncoding::Base64 => base64_decode(raw).map(Cow::Owned),
    });
    match bytes {
        Some(bytes) => {
            let charset = part
                .content_type()
                .and_then(|kind| kind.attribute("charset"));
            decoded(&bytes, charset, top_level_domain(message)).into()
        }
        None => Cow::Borrowed(part.text_contents().unwrap_or_default()),
    }
}

/// The last part of the sender's address, which tells something of the language.
fn top_level_domain<'a>(message: &'a Message) -> Option<&'a str> {
    let address = message.from()?.first()?.address()?;
    let (_, domain) = address.rsplit_once('.')?;
    domain
        .bytes()
        .all(|byte| byte.is_ascii_lowercase())
        .then_some(domain)
}

fn decoded(bytes: &[u8], charset: Option<&str>, domain: Option<&str>) -> String {
    let utf8 = std::str::from_utf8(bytes)
        .ok()
        .filter(|_| !bytes.contains(&b'\x1b'));
    let charset = charset
        .map(str::trim)
        .filter(|charset| !charset.eq_ignore_ascii_case("us-ascii"));
    if charset.is_some_and(|charset| charset.to_ascii_lowercase().ends_with("utf-7")) {
        return from_utf7(bytes);
    }
    let stated = charset.and_then(|charset| charset_decoder(charset.as_bytes()));
    // Texts in a charset of one byte a character are hardly ever valid UTF-8 by chance.
    let is_single = charset.and_then(|charset| Encoding::for_label(charset.as_bytes()));
    let is_single = is_single.is_some_and(Encoding::is_single_byte);
    match (stated, utf8) {
        (None, Some(text)) => text.to_owned(),
        (Some(_), Some(text)) if is_single => text.to_owned(),
        (Some(decoder), _) => {
            let text = decoder(bytes);
            if text.contains('\u{fffd}') {
                utf8.map_or_else(|| guessed(bytes, domain), str::to_owned)
            } else {
                text
            }
        }
        (None, None) => guessed(bytes, domain),
    }
}

fn guessed(bytes: &[u8], domain: Option<&str>) -> String {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let encoding = detector.guess(domain.map(str::as_bytes), Utf8Detection::Allow);
    encoding.decode(bytes).0.into_owned()
}

/// A text in UTF-7 (RFC 2152): between `+` and `-`, or another character that is not of Base64, stands UTF-16 in Base64.
fn from_utf7(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == b'+') {
        text.push_str(&String::from_utf8_lossy(&rest[..at]));
        rest = &rest[at + 1..];
        let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
        let n = rest.iter().take_while(is_base64).count();
        let units = base64_decode(&rest[..n]).unwrap_or_default();
        let units = units
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        text.extend(
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)),
        );
        rest = &rest[n..];
        let is_plus = n == 0;
        if let Some(after) = rest.strip_prefix(b"-") {
            rest = after;
            text.push_str(if is_plus { "+" } else { "" });
        }
    }
    text.push_str(&String::from_utf8_lossy(rest));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charset_is_the_stated_one_or_guessed() {
        for (bytes, charset, text) in [
            (&b"Caf\xc3\xa9"[..], Some("utf-8"), "Café"),
            (b"Caf\xe9", Some("iso-8859-1"), "Café"),
            (b"Caf\xe8 at eight", None, "Cafè at eight"),
            (b"Caf\xc3\xa9 at nine", Some("unknown-8bit"), "Café at nine"),
            (b"Caf\xc3\xa9 at ten", Some("us-ascii"), "Café at ten"),
            (b"Caf\xc3\xa9 at ten", Some("iso-8859-1"), "Café at ten"),
            (
                b"\x93Quoted\x94 \x96 dash\x85",
                Some("windows-1252"),
                "“Quoted” – dash…",
            ),
            (b"\xf0\xd2\xc9\xd7\xc5\xd4", Some("koi8-r"), "Привет"),
            (b"\x1b$B$O$7$4\x1b(B", Some("iso-2022-jp"), "はしご"),
            (b"\x1b$B$O$7$4\x1b(B", None, "はしご"),
            (
                b"\xce\xd2\xb4\xf8\xcc\xdd\xd7\xd3",
                Some("gb2312"),
                "我带梯子",
            ),
            (
                b"Caf+AOk- at 2+-2, +AOk at",
                Some("utf-7"),
                "Café at 2+2, é at",
            ),
        ] {
            assert_eq!(decoded(bytes, charset, None), text, "{charset:?}");
        }
    }

    #[test]
    fn flowed_lines_go_on_and_quotations_are_counted() {
        let lines = plain_lines(" From \n>> a\n> > b\n-- \nx", true, false);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| (line.text.as_str(), line.place, line.is_soft))
            .collect();
        assert_eq!(
            shown,
            [
                ("From ", LinePlace::Own, true),
                ("a", LinePlace::Quoted(2), false),
                ("b", LinePlace::Quoted(2), false),
                ("-- ", LinePlace::Own, false),
                ("x", LinePlace::Own, false),
            ]
        );
        assert_eq!(
            plain_lines("No spaces \nhere", true, true)[0].text,
            "No spaces"
        );
    }

    #[test]
    fn the_marks_of_a_pgp_signature_are_no_text() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nYours.\n-----BEGIN PGP SIGNATURE-----\n\nabc\n";
        assert_eq!(without_pgp(text), "Yours.\n");
    }
}
