//! Connections: how one is made, checked, driven, and made again after it was lost.

use std::fmt;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Connection, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{DbError, tls};

/// The extension versions whose functions this worker knows how to call.
const SUPPORTED_VERSIONS: &[&str] = &["0.1.0"];

/// A server that does not answer for this long is taken as gone; below the lease, so that a healthy one can be found in time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long written data may stay unacknowledged, and how long a silent connection goes unprobed, before it is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the database is and how connections to it are secured.
#[derive(Clone)]
pub struct Database {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

/// Why a text does not say where the database is. It never repeats the text.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("not a Postgres URL and not \"key=value\" pairs")]
    Malformed,
    #[error("sslmode is one of disable, prefer, require, verify-ca, verify-full")]
    SslMode,
    #[error("failed to read the certificates of sslrootcert: {0}")]
    Roots(#[from] std::io::Error),
}

impl Database {
    /// Reads a URL or "key=value" pairs, as libpq does.
    ///
    /// `verify-ca` checks the host's name as well, like `verify-full`, and so does `require` when `sslrootcert` is given;
    /// `prefer` checks nothing.
    ///
    /// # Errors
    /// When the text is malformed, or the file of `sslrootcert` cannot be read.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let (rest, settings) = take_tls_settings(text);
        let mode = settings.mode.as_deref().unwrap_or("prefer");
        let (ssl_mode, verified) = match mode {
            "disable" => (SslMode::Disable, false),
            "allow" | "prefer" => (SslMode::Prefer, false),
            "require" => (SslMode::Require, settings.roots.is_some()),
            "verify-ca" | "verify-full" => (SslMode::Require, true),
            _ => return Err(DatabaseUrlError::SslMode),
        };
        let mut config: tokio_postgres::Config =
            rest.parse().map_err(|_| DatabaseUrlError::Malformed)?;
        config
            .ssl_mode(ssl_mode)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(SILENCE_TIMEOUT)
            .tcp_user_timeout(SILENCE_TIMEOUT);
        let tls = match (verified, settings.roots) {
            (false, _) => tls::unverified(),
            (true, Some(path)) => tls::verifying(tls::roots_of_file(&path)?),
            (true, None) => tls::verifying(tls::system_roots()),
        };
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls),
        })
    }
}

impl fmt::Debug for Database {
    /// Without the password, which the configuration's own form hides too, and without the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("dbname", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct TlsSettings {
    mode: Option<String>,
    roots: Option<PathBuf>,
}

/// Takes the two TLS settings out of the text: the Postgres client reads neither `verify-full` nor `sslrootcert`.
fn take_tls_settings(text: &str) -> (String, TlsSettings) {
    let mut settings = TlsSettings::default();
    let mut is_kept = |pair: &&str| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            settings.mode = Some(value.to_owned());
            false
        }
        Some(("sslrootcert", value)) => {
            settings.roots = Some(value.into());
            false
        }
        _ => true,
    };
    let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter(&mut is_kept)
            .collect();
        match kept.is_empty() {
            true => address.to_owned(),
            false => format!("{address}?{}", kept.join("&")),
        }
    } else {
        let is_tls = |word: &&str| word.starts_with("sslmode=") || word.starts_with("sslrootcert=");
        match text.split_ascii_whitespace().any(|word| is_tls(&word)) {
            // Only then, because splitting at spaces would change a quoted value that holds two.
            true => text
                .split(' ')
                .filter(&mut is_kept)
                .collect::<Vec<_>>()
                .join(" "),
            false => text.to_owned(),
        }
    };
    (rest, settings)
}

/// One live connection and the statements prepared on it.
pub(crate) struct Session {
    client: Client,
    statements: Vec<(&'static str, Statement)>,
}

impl Session {
    /// Connects and checks that the extension is one that this worker knows. `signal` is notified of every NOTIFY on the
    /// connection, and when the connection is lost.
    async fn connect(
        database: &Database,
        purpose: &str,
        signal: Arc<Notify>,
    ) -> Result<Self, DbError> {
        let mut config = database.config.clone();
        config.application_name(format!("actionflow-worker {purpose}"));
        let (client, connection) = config
            .connect(database.tls.clone())
            .await
            .map_err(DbError::Connect)?;
        tokio::spawn(drive(connection, signal));
        check_version(&client).await?;
        lift_timeouts(&client).await?;
        Ok(Self {
            client,
            statements: Vec::new(),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The statement of this text, prepared on first use.
    pub(crate) async fn statement(&mut self, sql: &'static str) -> Result<Statement, DbError> {
        if let Some((_, statement)) = self.statements.iter().find(|(text, _)| *text == sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.push((sql, statement.clone()));
        Ok(statement)
    }
}

async fn check_version(client: &Client) -> Result<(), DbError> {
    let sql = "select extversion::text from pg_catalog.pg_extension where extname = 'actionflow'";
    let version: String = match client.query_opt(sql, &[]).await? {
        Some(row) => row.get(0),
        None => return Err(DbError::ExtensionMissing),
    };
    match SUPPORTED_VERSIONS.contains(&version.as_str()) {
        true => Ok(()),
        false => Err(DbError::ExtensionUnsupported { version }),
    }
}

/// What a database or a role sets for its own sessions is not for these: every call has a budget here, and a wait for
/// requests that was cancelled would be taken for a lost connection.
async fn lift_timeouts(client: &Client) -> Result<(), DbError> {
    const SQL: &str = "select pg_catalog.set_config(s.name, '0', false) from pg_catalog.pg_settings as s \
        where s.setting <> '0' and s.name in ('statement_timeout', 'lock_timeout', 'transaction_timeout', \
            'idle_session_timeout', 'idle_in_transaction_session_timeout')";
    client.query(SQL, &[]).await?;
    Ok(())
}

async fn drive<S, T>(mut connection: Connection<S, T>, signal: Arc<Notify>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notification(_)) => signal.notify_one(),
            Ok(_) => {}
            // The caller whose query fails with it reports the loss.
            Err(error) => {
                tracing::debug!("a database connection ended: {error}");
                break;
            }
        }
    }
    signal.notify_one();
}

/// A connection for one purpose, made when it is first needed and again after any failure.
pub(crate) struct Link {
    database: Database,
    purpose: &'static str,
    signal: Arc<Notify>,
    session: Option<Session>,
}

impl Link {
    pub(crate) fn new(database: Database, purpose: &'static str, signal: Arc<Notify>) -> Self {
        Self {
            database,
            purpose,
            signal,
            session: None,
        }
    }

    /// The live session and whether it is new.
    pub(crate) async fn session(&mut self) -> Result<(&mut Session, Freshness), DbError> {
        let alive = self.session.take_if(|session| !session.client.is_closed());
        let (session, freshness) = match alive {
            Some(session) => (session, Freshness::Kept),
            None => {
                let session =
                    Session::connect(&self.database, self.purpose, self.signal.clone()).await?;
                (session, Freshness::New)
            }
        };
        Ok((self.session.insert(session), freshness))
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| !session.client.is_closed())
    }

    /// Gives up the connection: after an error or a timeout, what its statements and its answers mean is uncertain.
    pub(crate) fn reset(&mut self) {
        self.session = None;
    }
}

/// Whether a session was there before it was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    New,
    Kept,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (String, Option<String>, Option<PathBuf>) {
        let (rest, settings) = take_tls_settings(text);
        (rest, settings.mode, settings.roots)
    }

    #[test]
    fn the_tls_settings_are_taken_out_and_the_rest_is_kept() {
        let url = "postgres://u:p@h:1/d?sslmode=verify-full&application_name=x&sslrootcert=/ca.pem";
        let expected = (
            "postgres://u:p@h:1/d?application_name=x".to_owned(),
            Some("verify-full".to_owned()),
            Some("/ca.pem".into()),
        );
        assert_eq!(taken(url), expected);
        assert_eq!(
            taken("postgres://h/d?sslmode=require"),
            (
                "postgres://h/d".to_owned(),
                Some("require".to_owned()),
                None
            )
        );
        assert_eq!(
            taken("host=h sslmode=disable dbname=d"),
            (
                "host=h dbname=d".to_owned(),
                Some("disable".to_owned()),
                None
            )
        );
        assert_eq!(
            taken("host=h options='a  b'"),
            ("host=h options='a  b'".to_owned(), None, None)
        );
    }

    #[test]
    fn an_unknown_sslmode_is_refused() {
        let error = Database::parse("postgres://h/d?sslmode=maybe").unwrap_err();
        assert!(matches!(error, DatabaseUrlError::SslMode));
    }
}
