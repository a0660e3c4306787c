//! DER (X.690, 10), as much of it as keys need: elements of definite length, one after the other.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;

/// Takes the content of the element with this tag off the front; `None` when there is none.
///
/// It does not descend by itself, so that no nesting is too deep for it.
pub(super) fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // Longer than any key that is read.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (found == tag).then(|| *der = rest)?;
    Some(content)
}

/// As [`take`], for the last element: nothing may follow.
pub(super) fn take_last(mut der: &[u8], tag: u8) -> Option<&[u8]> {
    let content = take(&mut der, tag)?;
    der.is_empty().then_some(content)
}

/// Significant bits of a positive integer's content; `None` when it is not positive.
pub(super) fn bits(integer: &[u8]) -> Option<usize> {
    let (&first, _) = integer.split_first().filter(|(first, _)| **first < 0x80)?;
    let digits = if first == 0 { &integer[1..] } else { integer };
    let (&high, low) = digits.split_first().filter(|(high, _)| **high > 0)?;
    Some(low.len() * 8 + 8 - high.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_one_after_the_other() {
        let der = [[2, 1, 7, 4, 2].as_slice(), b"ab"].concat();
        let mut rest = der.as_slice();
        assert_eq!(take(&mut rest, OCTET_STRING), None);
        assert_eq!(take(&mut rest, INTEGER), Some([7].as_slice()));
        assert_eq!(take_last(rest, OCTET_STRING), Some(b"ab".as_slice()));
        assert_eq!(take_last(&der, INTEGER), None);
    }

    #[test]
    fn lengths_have_three_forms() {
        for (head, length) in [
            (vec![4, 0x7f], 0x7f),
            (vec![4, 0x81, 0x80], 0x80),
            (vec![4, 0x82, 0x01, 0x02], 0x102),
        ] {
            let der = [head, vec![9; length]].concat();
            assert_eq!(take_last(&der, OCTET_STRING).map(<[u8]>::len), Some(length));
            assert_eq!(take_last(&der[..der.len() - 1], OCTET_STRING), None);
        }
    }

    #[test]
    fn what_is_cut_short_or_of_indefinite_length_is_refused() {
        for der in [
            [].as_slice(),
            &[4],
            &[4, 0x80, 0, 0],
            &[4, 0x81],
            &[4, 0x82, 0],
            &[4, 0x84, 0, 0, 0, 0],
        ] {
            assert_eq!(take_last(der, OCTET_STRING), None, "{der:?}");
        }
    }

    #[test]
    fn bits_are_counted_from_the_highest() {
        assert_eq!(bits(&[1]), Some(1));
        assert_eq!(bits(&[0x7f]), Some(7));
        assert_eq!(bits(&[0, 0x80]), Some(8));
        assert_eq!(bits(&[0, 0x80, 0]), Some(16));
        for not_positive in [[].as_slice(), &[0], &[0x80], &[0, 0]] {
            assert_eq!(bits(not_positive), None);
        }
    }
}
