//! Keyed hashes. The state after keying is kept and not the key, so that its two compressions are paid once a secret instead of
//! once a request. It is as good as the key to whoever reads the memory, where the configuration that it was read from may be, too.

use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// The longest of the hashes, in bytes.
const MAX_BYTES: usize = 64;

/// A hash function under HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The length of its result in bytes.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// HMAC with its key.
#[derive(Clone)]
pub(super) enum Keyed {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    // Boxed, because they are twice as large as what nearly everybody uses.
    Sha384(Box<Hmac<Sha384>>),
    Sha512(Box<Hmac<Sha512>>),
}

/// The result of a hash.
pub(super) struct Tag {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Keyed {
    pub(super) fn new(hash: Hash, key: &[u8]) -> Self {
        const ANY_LENGTH: &str = "HMAC takes keys of any length";
        match hash {
            Hash::Sha1 => Self::Sha1(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Hash::Sha256 => Self::Sha256(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Hash::Sha384 => Self::Sha384(Box::new(Hmac::new_from_slice(key).expect(ANY_LENGTH))),
            Hash::Sha512 => Self::Sha512(Box::new(Hmac::new_from_slice(key).expect(ANY_LENGTH))),
        }
    }

    /// The hash of what `feed` hands over, piece by piece.
    pub(super) fn tag(&self, feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Tag {
        match self {
            Self::Sha1(state) => finish(state.clone(), feed),
            Self::Sha256(state) => finish(state.clone(), feed),
            Self::Sha384(state) => finish(Hmac::clone(state), feed),
            Self::Sha512(state) => finish(Hmac::clone(state), feed),
        }
    }
}

fn finish(mut state: impl hmac::Mac, feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Tag {
    feed(&mut |piece| state.update(piece));
    Tag::new(&state.finalize().into_bytes())
}

/// SHA-256 without a key.
pub(super) fn sha256(feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Tag {
    let mut state = Sha256::new();
    feed(&mut |piece| state.update(piece));
    Tag::new(&state.finalize())
}

impl Tag {
    fn new(result: &[u8]) -> Self {
        let mut bytes = [0; MAX_BYTES];
        bytes[..result.len()].copy_from_slice(result);
        Self {
            bytes,
            length: result.len(),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
