//! Signing against a published vector, and the laws that it keeps.

use actionflow_core::signature::{Secret, sign};
use proptest::prelude::*;

/// The vector that the Standard Webhooks libraries share.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const TIMESTAMP: &str = "1649367553";
const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

fn secret(text: &str) -> Secret {
    Secret::parse(text).expect("a good secret")
}

#[test]
fn the_published_vector_is_reproduced() {
    assert_eq!(sign(&[secret(SECRET)], ID, TIMESTAMP, BODY), SIGNATURE);
}

#[test]
fn every_secret_signs_and_one_space_stands_between() {
    let other = secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let both = sign(&[secret(SECRET), other.clone()], ID, TIMESTAMP, BODY);
    let alone = sign(&[other], ID, TIMESTAMP, BODY);
    assert_eq!(both, format!("{SIGNATURE} {alone}"));
    assert_eq!(sign(&[], ID, TIMESTAMP, BODY), "");
}

proptest! {
    #[test]
    fn a_changed_byte_changes_the_signature(
        body in prop::collection::vec(any::<u8>(), 1..400),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut changed = body.clone();
        changed[at.index(body.len())] ^= flip;
        let secrets = [secret(SECRET)];
        prop_assert_ne!(sign(&secrets, "1", "2", &body), sign(&secrets, "1", "2", &changed));
    }

    #[test]
    fn reading_a_secret_never_panics(text in "(whsec_)?\\PC{0,100}") {
        let _is_judged = Secret::parse(&text);
    }
}
