//! What HTTP/1.1 and HTTP/2 have in common, pure: dates, header rules, text.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::hpack::{Fields, latin1_bytes};

/// Header bytes as text: Latin-1, so that nothing is lost.
pub fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => bytes.iter().map(|&byte| byte as char).collect(),
    }
}

pub fn headers(fields: &Fields) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| (latin1(name), latin1(value))).collect()
}

/// Digits only (RFC 9110 §8.6); None: malformed.
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + (digit - b'0') as u64))
}

pub fn may_have_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// Headers that speak of an HTTP/1 connection and have no place in HTTP/2 (RFC 9113 §8.2.2).
pub fn is_connection_header(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

/// A regular field that may appear in an HTTP/2 message (RFC 9113 §8.2).
pub fn is_h2_field(name: &[u8], value: &[u8]) -> bool {
    let connection = std::str::from_utf8(name).is_ok_and(is_connection_header);
    !name.is_empty()
        && !connection
        && name.iter().all(|&b| is_token(b) && !b.is_ascii_uppercase())
        && !value.iter().any(|&b| matches!(b, 0 | b'\r' | b'\n'))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// May this header of ours be sent? Line breaks would smuggle others in.
pub fn is_clean(name: &str, value: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(is_token)
        && !value.chars().any(|c| c == '\r' || c == '\n' || c == '\0')
}

/// Headers as HTTP/1.1 sends them, one a line, without those that may not be sent.
pub fn write_lines(out: &mut Vec<u8>, headers: &[(String, String)]) {
    for (name, value) in headers {
        if !name.eq_ignore_ascii_case("transfer-encoding") && is_clean(name, value) {
            let parts = [name.as_bytes(), b": ", &latin1_bytes(value), b"\r\n"];
            parts.iter().for_each(|part| out.extend_from_slice(part));
        }
    }
}

/// The names and values of such lines.
pub fn fields_of(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// CLOCK_MONOTONIC, as Python's `time.monotonic_ns()`.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Now, as an HTTP date (RFC 9110 §5.6.7). Written once a second on each thread.
pub fn date() -> Rc<str> {
    thread_local! {
        static LAST: RefCell<(u64, Rc<str>)> = RefCell::new((0, Rc::from(date_of(0))));
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|last| {
        if last.0 != now_s {
            *last = (now_s, Rc::from(date_of(now_s)));
        }
        Rc::clone(&last.1)
    })
}

fn date_of(unix_s: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Years that begin in March put the leap day last; 719468 days lie before 1970-01-01.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates() {
        assert_eq!(date_of(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date_of(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date_of(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date_of(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
    }

    #[test]
    fn reads_lengths() {
        assert_eq!(content_length(b"42"), Some(42));
        for bad in [&b""[..], b"+1", b"-1", b"1 ", b"0x1", b"9999999999999999999"] {
            assert_eq!(content_length(bad), None);
        }
    }
}
