//! Just enough DER (X.690) to read the subject's CN and the alternative names of a certificate
//! that the TLS library has already verified. Anything unexpected is None, never a panic.

use std::net::IpAddr;

#[derive(Default, Debug, PartialEq, Eq)]
pub struct Names {
    pub common_name: String,
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const LATIN1_STRINGS: u8 = 0x14; // T61String, by custom Latin-1
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

/// One element off `data`: its tag and contents.
fn element<'a>(data: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = data.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = first as usize;
    if first & 0x80 != 0 {
        let count = (first & 0x7f) as usize;
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |sum, &digit| sum << 8 | digit as usize);
        rest = after;
    }
    let (contents, after) = rest.split_at_checked(length)?;
    *data = after;
    Some((tag, contents))
}

fn expect<'a>(data: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(data).filter(|found| found.0 == tag).map(|found| found.1)
}

/// The names in the certificate `der` (RFC 5280 §4.1).
pub fn names(mut der: &[u8]) -> Option<Names> {
    let mut certificate = expect(&mut der, SEQUENCE)?;
    let mut tbs = expect(&mut certificate, SEQUENCE)?;
    if tbs.first() == Some(&0xa0) {
        element(&mut tbs)?; // version
    }
    for _ in ["serial", "signature", "issuer", "validity"] {
        element(&mut tbs)?;
    }
    let mut names = Names::default();
    common_name(expect(&mut tbs, SEQUENCE)?, &mut names);
    while let Some((tag, mut wrapped)) = element(&mut tbs) {
        if tag == 0xa3 {
            extensions(expect(&mut wrapped, SEQUENCE)?, &mut names);
        }
    }
    Some(names)
}

fn common_name(mut subject: &[u8], names: &mut Names) -> Option<()> {
    while let Some((_, mut set)) = element(&mut subject) {
        while let Some((_, mut attribute)) = element(&mut set) {
            if expect(&mut attribute, OID)? == COMMON_NAME {
                let (tag, text) = element(&mut attribute)?;
                names.common_name = match tag {
                    BMP_STRING => {
                        let units = text.chunks_exact(2).map(|u| u16::from_be_bytes([u[0], u[1]]));
                        char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect()
                    }
                    LATIN1_STRINGS => text.iter().map(|&byte| byte as char).collect(),
                    _ => String::from_utf8_lossy(text).into_owned(),
                };
            }
        }
    }
    Some(())
}

fn extensions(mut list: &[u8], names: &mut Names) -> Option<()> {
    while let Some((_, mut extension)) = element(&mut list) {
        if expect(&mut extension, OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        let (mut tag, mut contents) = element(&mut extension)?;
        if tag == 0x01 {
            (tag, contents) = element(&mut extension)?; // "critical" came first
        }
        if tag != 0x04 {
            return None;
        }
        let mut alternatives = expect(&mut contents, SEQUENCE)?;
        while let Some((tag, value)) = element(&mut alternatives) {
            match (tag, value.len()) {
                (0x82, _) => names.dns.push(String::from_utf8_lossy(value).into_owned()),
                (0x87, 4) => names.ips.push(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
                (0x87, 16) => names.ips.push(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
                _ => {}
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let contents = parts.concat();
        let mut out = vec![tag];
        if contents.len() < 0x80 {
            out.push(contents.len() as u8);
        } else {
            out.extend([0x82, (contents.len() >> 8) as u8, contents.len() as u8]);
        }
        out.extend(contents);
        out
    }

    fn certificate() -> Vec<u8> {
        let cn = wrap(SEQUENCE, &[&wrap(OID, &[COMMON_NAME]), &wrap(0x0c, &[b"alice"])]);
        let subject = wrap(SEQUENCE, &[&wrap(0x31, &[&cn])]);
        let san = wrap(
            SEQUENCE,
            &[&wrap(0x82, &[b"a.example"]), &wrap(0x87, &[&[127, 0, 0, 1]]), &wrap(0x82, &[b"b"])],
        );
        let extension = wrap(
            SEQUENCE,
            &[&wrap(OID, &[SUBJECT_ALT_NAME]), &wrap(1, &[&[0xff]]), &wrap(4, &[&san])],
        );
        let empty = wrap(SEQUENCE, &[]);
        let tbs = wrap(
            SEQUENCE,
            &[
                &wrap(0xa0, &[&[2, 1, 2]]),
                &wrap(2, &[&[1]]),
                &empty,
                &empty,
                &empty,
                &subject,
                &empty,
                &wrap(0xa3, &[&wrap(SEQUENCE, &[&extension])]),
            ],
        );
        wrap(SEQUENCE, &[&tbs])
    }

    #[test]
    fn reads_names() {
        let names = names(&certificate()).unwrap();
        assert_eq!(names.common_name, "alice");
        assert_eq!(names.dns, ["a.example", "b"]);
        assert_eq!(names.ips, [IpAddr::from([127, 0, 0, 1])]);
    }

    /// Cut or changed certificates give something or nothing, but never a panic.
    #[test]
    fn survives_damage() {
        let der = certificate();
        for at in 0..der.len() {
            names(&der[..at]);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = der.clone();
                damaged[at] = value;
                names(&damaged);
            }
        }
    }
}
