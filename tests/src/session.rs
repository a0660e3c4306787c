//! One connection to a database.

use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// How the harness introduces itself, so that errors which a test provokes are told from others in the server's log.
pub(crate) const APPLICATION: &str = "actionflow-tests";

/// A connection with text in and text out: what a person at psql would see.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: AbortHandle,
}

/// What the server said about a statement that it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE, five characters.
    pub code: String,
    /// The first line of the report.
    pub message: String,
    /// The DETAIL line, empty when there is none.
    pub detail: String,
    /// The HINT line, empty when there is none.
    pub hint: String,
}

impl Session {
    /// Connects to `url`.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
    }

    /// Connects to `url`, or says why not.
    pub async fn try_connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let mut config: Config = url.parse()?;
        config.application_name(APPLICATION);
        let (client, connection) = config.connect(NoTls).await?;
        // It ends with the client; a connection that breaks shows in the next statement.
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Self { client, connection })
    }

    /// What cuts the connection without a word to the server, as a client does that crashes.
    pub fn cut(&self) -> impl FnOnce() + use<> {
        let connection = self.connection.clone();
        move || connection.abort()
    }

    /// Runs statements whose results do not matter.
    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.try_rows(sql).await {
            panic!("{sql}\nfailed: {error:#?}");
        }
    }

    /// The rows of a query, their columns joined by `|`, NULL as nothing.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        match self.try_rows(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}\nfailed: {error:#?}"),
        }
    }

    /// The one row of a query, its columns joined by `|`.
    pub async fn text(&self, sql: &str) -> String {
        let mut rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}\nreturned {rows:?}, not one row");
        rows.remove(0)
    }

    /// The one number of a query.
    pub async fn number(&self, sql: &str) -> i64 {
        let text = self.text(sql).await;
        text.parse()
            .unwrap_or_else(|_| panic!("{sql}\nreturned {text:?}, not a number"))
    }

    /// The one JSON value of a query.
    pub async fn json(&self, sql: &str) -> serde_json::Value {
        let text = self.text(sql).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{sql}\nreturned {text:?}, not JSON"))
    }

    /// The error of statements that the server must refuse.
    pub async fn error(&self, sql: &str) -> SqlError {
        match self.try_rows(sql).await {
            Ok(rows) => panic!("{sql}\nwas accepted and returned {rows:?}"),
            Err(error) => error,
        }
    }

    /// The rows of statements, or the server's refusal.
    pub async fn try_rows(&self, sql: &str) -> Result<Vec<String>, SqlError> {
        let messages = self
            .client
            .simple_query(sql)
            .await
            .map_err(|error| SqlError::of(&error))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let columns = (0..row.len()).map(|column| row.get(column).unwrap_or_default());
                Some(columns.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

impl SqlError {
    fn of(error: &tokio_postgres::Error) -> Self {
        let Some(report) = error.as_db_error() else {
            return Self {
                code: String::new(),
                message: error.to_string(),
                detail: String::new(),
                hint: String::new(),
            };
        };
        Self {
            code: report.code().code().to_owned(),
            message: report.message().to_owned(),
            detail: report.detail().unwrap_or_default().to_owned(),
            hint: report.hint().unwrap_or_default().to_owned(),
        }
    }
}
