//! The format of netlink messages (netlink(7), rtnetlink(7)), as far as it is the same for all of them.
//!
//! Without a crate: those that know each attribute of routing add 1 MB to the binary, and what is read
//! here are two kinds of message. What is cut off ends an iteration; nothing panics.

/// Octets of `nlmsghdr`, and of the header of an attribute.
const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// The two bits above an attribute's type that say how it is put (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;

/// The messages of what was received, each with its type and its content: nlmsghdr { len u32, type u16,
/// flags u16, seq u32, pid u32 }.
pub fn messages(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*octets.first_chunk()?) as usize;
        let body = octets.get(MESSAGE_HEADER..length)?;
        let kind = u16::from_ne_bytes([octets[4], octets[5]]);
        octets = after(octets, length);
        Some((kind, body))
    })
}

/// Attributes, each with its type and its value: rtattr { len u16, type u16 }.
pub fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *octets.first_chunk::<ATTRIBUTE_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = octets.get(ATTRIBUTE_HEADER..length)?;
        octets = after(octets, length);
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

/// The value of the first attribute of this type.
pub fn find(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The text in a value, which a NUL ends.
pub fn text(value: &[u8]) -> &[u8] {
    value.split(|octet| *octet == 0).next().unwrap_or_default()
}

/// An attribute, filled up to four octets.
#[cfg(any(test, feature = "lab"))]
#[must_use]
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// What follows something of a length, which is filled up to four octets.
fn after(octets: &[u8], length: usize) -> &[u8] {
    octets.get(length.next_multiple_of(4)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_received_is_cut_into_messages() {
        let message = |length: u32, kind: u16, octets: usize| {
            let mut message = length.to_ne_bytes().to_vec();
            message.extend(kind.to_ne_bytes());
            message.resize(octets, 0);
            message
        };
        let received = [message(18, 5, 20), message(16, 6, 16)].concat();
        fn found(octets: &[u8]) -> Vec<(u16, usize)> {
            messages(octets).map(|(kind, body)| (kind, body.len())).collect()
        }
        assert_eq!(found(&received), [(5, 2), (6, 0)]);
        for cut in 20..36 {
            assert_eq!(found(&received[..cut]), [(5, 2)], "{cut}");
        }
        // Without its padding the last one is whole; with less than a header, or none, it is no message.
        assert_eq!(found(&received[..18]), [(5, 2)]);
        for length in [0, 1, 15] {
            assert!(found(&message(length, 5, 16)).is_empty(), "{length}");
        }
    }

    #[test]
    fn attributes_are_cut_and_have_a_type_without_its_flags() {
        let octets = [attribute(0xc012, &[9]), attribute(3, &[])].concat();
        assert_eq!(octets.len(), 12);
        fn found(octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
            attributes(octets).map(|(kind, value)| (kind, value.to_vec())).collect()
        }
        assert_eq!(found(&octets), [(0x12, vec![9]), (3, vec![])]);
        assert_eq!(found(&octets[..11]), [(0x12, vec![9])]);
        assert_eq!(found(&octets[..4]), []);
        for length in 0u16..4 {
            assert_eq!(found(&[length.to_ne_bytes(), [0; 2], [0; 2]].concat()), [], "{length}");
        }
    }
}
