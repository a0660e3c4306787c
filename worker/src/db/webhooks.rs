//! Inbound webhooks: the connections for them, and the one call.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::connect::{Database, Freshness, Link};
use super::{DbError, within};
use crate::ingress::{Answer, Failure, FailureKind, Inbound, Webhooks};

/// The server itself ends a call after this long, so that one which was given up here seldom takes effect afterwards. It can
/// all the same: the limit does not cover the commit, which may wait for a synchronous standby. Then the sender's next attempt
/// is a repeat. It is about as long as the most patient senders wait.
const SET_TIMEOUT: &str = "set statement_timeout = '10s'";

/// A connection that says nothing for this long is gone: a call has [`SET_TIMEOUT`], and a new connection five seconds.
const BUDGET: Duration = Duration::from_secs(15);

/// The version of the binary form of jsonb, which is followed by the text.
const JSONB_VERSION: u8 = 1;

/// The connections that receive webhooks. There are as many as there have been calls at once: the caller bounds them.
pub struct PgWebhooks {
    database: Database,
    /// The last used is used next, so an idle worker needs one.
    idle: Mutex<Vec<Link>>,
}

impl PgWebhooks {
    /// Connects to nothing yet: a connection is made when none is idle.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self {
            database: database.clone(),
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Webhooks for PgWebhooks {
    async fn receive(&self, inbound: &Inbound) -> Result<Answer, Failure> {
        let kept = self.idle().pop();
        let mut link = kept
            .unwrap_or_else(|| Link::new(self.database.clone(), "webhooks", Default::default()));
        let result = within(BUDGET, receive(&mut link, inbound)).await;
        let result = result.map_err(|error| Failure {
            kind: kind(&error),
            error,
        });
        // After a conflict the connection is as good as before. After anything else it may not be, such as when a statement no
        // longer fits the extension.
        let is_kept = |failure: &Failure| failure.kind == FailureKind::Conflict;
        if !result.as_ref().err().is_none_or(is_kept) {
            link.reset();
        }
        self.idle().push(link);
        result
    }
}

async fn receive(link: &mut Link, inbound: &Inbound) -> Result<Answer, DbError> {
    const SQL: &str = "select status, response from actionflow.receive_webhook($1::text, $2::text, $3::jsonb, $4::bytea, $5::inet)";
    let (session, freshness) = link.session().await?;
    if freshness == Freshness::New {
        session.client().batch_execute(SET_TIMEOUT).await?;
    }
    let statement = session.statement(SQL).await?;
    let parameters: [&(dyn ToSql + Sync); 5] = [
        &inbound.token,
        &inbound.method.as_str(),
        &JsonText(&inbound.headers),
        &&*inbound.body,
        &inbound.source,
    ];
    let row = session.client().query_one(&statement, &parameters).await?;
    answer(&row)
}

fn answer(row: &Row) -> Result<Answer, DbError> {
    let status: i32 = row.try_get(0)?;
    let response: Option<JsonText<&str>> = row.try_get(1)?;
    Ok(Answer {
        // A status that is none is told apart from the valid ones where the answer is written.
        status: u16::try_from(status).unwrap_or_default(),
        response: response.map(|JsonText(text)| text.to_owned()),
    })
}

/// A JSON text as jsonb, which neither end has to parse on this side.
#[derive(Debug)]
struct JsonText<T>(T);

impl<T: AsRef<str> + std::fmt::Debug> ToSql for JsonText<T> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u8(JSONB_VERSION);
        out.put_slice(self.0.as_ref().as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for JsonText<&'a str> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match raw.split_first() {
            Some((&JSONB_VERSION, text)) => Ok(Self(std::str::from_utf8(text)?)),
            _ => Err("an unknown form of jsonb".into()),
        }
    }

    accepts!(JSONB);
}

/// What a failure means for the sender.
fn kind(error: &DbError) -> FailureKind {
    match error {
        DbError::Call(error) if !error.is_closed() => match error.code() {
            Some(code) => kind_of(code),
            // It broke on the way, or speaks another protocol.
            None => FailureKind::Unavailable,
        },
        DbError::Call(_) | DbError::Connect(_) | DbError::Silent(_) => FailureKind::Unavailable,
        // A person has to act, and then the sender's next attempt is welcome.
        DbError::ExtensionMissing
        | DbError::ExtensionUnsupported { .. }
        | DbError::NotPreloaded => FailureKind::Unavailable,
    }
}

fn kind_of(code: &SqlState) -> FailureKind {
    const CONFLICTS: [SqlState; 2] = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    const PASSING: [SqlState; 2] = [
        // A server that is being replaced: a standby answers.
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    if CONFLICTS.contains(code) {
        return FailureKind::Conflict;
    }
    // Connections, resources, an operator (shutdown, a time limit), the disk.
    let is_of_the_server = ["08", "53", "57", "58"].contains(&&code.code()[..2]);
    match is_of_the_server || PASSING.contains(code) {
        true => FailureKind::Unavailable,
        false => FailureKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_asks_the_sender_to_come_again() {
        let kind = |code| kind_of(&SqlState::from_code(code));
        for code in ["40001", "40P01"] {
            assert_eq!(kind(code), FailureKind::Conflict, "{code}");
        }
        for code in [
            "57014", "57P01", "57P03", "53300", "08006", "25006", "55P03", "58030",
        ] {
            assert_eq!(kind(code), FailureKind::Unavailable, "{code}");
        }
        for code in ["42883", "42501", "22P02", "XX000", "P0001", "55000"] {
            assert_eq!(kind(code), FailureKind::Internal, "{code}");
        }
    }

    #[test]
    fn jsonb_is_its_text_behind_a_version() {
        let mut out = BytesMut::new();
        JsonText("[1]").to_sql(&Type::JSONB, &mut out).unwrap();
        assert_eq!(&out[..], b"\x01[1]");
        let JsonText(text) = JsonText::from_sql(&Type::JSONB, &out).unwrap();
        assert_eq!(text, "[1]");
        assert!(JsonText::from_sql(&Type::JSONB, b"\x02[1]").is_err());
        assert!(JsonText::from_sql(&Type::JSONB, b"").is_err());
    }
}
