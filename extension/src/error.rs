//! Errors of core and of this crate as Postgres errors: the only place with SQLSTATE, DETAIL and HINT.

use actionflow_core::input::{self, Kind};
use actionflow_core::{mapping, signature};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode as Code, spi};

/// Whatever a surface function may fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Input(#[from] input::Error),
    #[error(transparent)]
    Spi(#[from] spi::Error),
    #[error("flow \"{0}\" does not exist")]
    NoSuchFlow(String),
    #[error("flow \"{0}\" is archived")]
    ArchivedFlow(String),
    #[error("flow \"{0}\" has no published version")]
    UnpublishedFlow(String),
    #[error("invalid mode \"{0}\"")]
    UnknownMode(String),
    #[error("required variable \"{variable}\" is missing")]
    MissingVariable { flow: String, variable: String },
    #[error("{what} is larger than {limit_mib} MiB")]
    TooLarge {
        what: &'static str,
        limit_mib: usize,
    },
    #[error("the JSON nests deeper than 128 levels")]
    TooDeep,
    #[error("{0} must not be null")]
    Null(&'static str),
    #[error("the properties of an event must be a JSON object")]
    PropertiesNotObject,
    #[error("event \"{0}\" needs \"verification_url\" in its properties")]
    NoVerificationUrl(String),
    #[error("invalid event name \"{0}\"")]
    EventName(String),
    #[error("attribute \"{attribute}\" does not exist")]
    NoSuchAttribute { attribute: String, path: String },
    #[error("column \"{column}\" has type {type_name}, so nothing is inside it")]
    NotJsonb {
        column: String,
        type_name: String,
        path: String,
    },
    #[error("operator \"{op}\" cannot be used on attribute \"{attribute}\" of type {type_name}")]
    OperatorType {
        op: &'static str,
        attribute: String,
        type_name: String,
        path: String,
        hint: &'static str,
    },
    #[error("enrich action \"{action}\" of flow \"{flow}\" failed: {kind}")]
    Enrich {
        flow: String,
        action: String,
        kind: &'static str,
    },
    #[error("an enrich action needs actionflow in shared_preload_libraries")]
    NotPreloaded,
    #[error("too many connections take requests of Enrich")]
    TooManyReceivers,
    #[error("events cannot be emitted in a read-only transaction")]
    ReadOnly,
    #[error("{}", .0.as_deref().unwrap_or("the event was refused"))]
    Refused(Option<String>),
    #[error("column \"{0}\", which has the customer's id, is null")]
    NoUserId(String),
    #[error("column \"{0}\" does not exist")]
    NoSuchColumn(String),
    #[error("segment \"{0}\" does not exist")]
    NoSuchSegment(String),
    #[error("could not serialize access due to a concurrent change of a membership")]
    Serialization,
    #[error("there is no signature preset for \"{0}\"")]
    NoSuchPreset(String),
    #[error("the mapping failed: {}", .0.message)]
    Mapping(mapping::Failure),
    #[error("no sample has been captured for trigger {0}")]
    NoSample(i64),
    #[error("the sample cannot be mapped: {0}")]
    Sample(String),
    #[error("actionflow is broken: {0}")]
    Internal(String),
}

impl Error {
    fn code(&self) -> Code {
        match self {
            Self::Input(error) => match error.kind {
                Kind::TooLarge { .. } => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                Kind::Unsupported(_) => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                Kind::UnknownKey { .. }
                | Kind::MissingKey(_)
                | Kind::WrongType { .. }
                | Kind::Unusable { .. } => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            },
            Self::Spi(_) | Self::Internal(_) => Code::ERRCODE_INTERNAL_ERROR,
            Self::NoSuchFlow(_) | Self::NoSuchSegment(_) => Code::ERRCODE_UNDEFINED_OBJECT,
            Self::NoSuchAttribute { .. } | Self::NoSuchColumn(_) => Code::ERRCODE_UNDEFINED_COLUMN,
            Self::NotJsonb { .. } | Self::OperatorType { .. } => Code::ERRCODE_DATATYPE_MISMATCH,
            Self::Enrich { .. } => Code::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
            Self::TooManyReceivers => Code::ERRCODE_TOO_MANY_CONNECTIONS,
            Self::ReadOnly => Code::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Self::Refused(_) => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::ArchivedFlow(_)
            | Self::UnpublishedFlow(_)
            | Self::NotPreloaded
            | Self::NoSample(_) => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::TooLarge { .. } | Self::TooDeep => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::Serialization => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::Null(_) | Self::NoUserId(_) => Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::UnknownMode(_)
            | Self::MissingVariable { .. }
            | Self::PropertiesNotObject
            | Self::NoVerificationUrl(_)
            | Self::EventName(_)
            | Self::NoSuchPreset(_)
            | Self::Mapping(_)
            | Self::Sample(_) => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Input(input::Error { path, .. })
            | Self::NoSuchAttribute { path, .. }
            | Self::NotJsonb { path, .. }
            | Self::OperatorType { path, .. } => Some(format!("At path {path}.")),
            Self::Mapping(failure) => failure
                .field
                .as_ref()
                .map(|field| format!("At path {field}.")),
            Self::MissingVariable { flow, .. } => {
                Some(format!("Flow \"{flow}\" declares it as required."))
            }
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Input(error) => match &error.kind {
                Kind::UnknownKey { allowed, .. } => {
                    return Some(format!("Use only: {}.", allowed.join(", ")));
                }
                Kind::Unusable { hint, .. } => hint,
                Kind::MissingKey(key) => return Some(format!("Add the key \"{key}\".")),
                Kind::WrongType { expected, .. } => return Some(format!("Give {expected}.")),
                Kind::TooLarge { .. } => "Split it into several smaller ones.",
                Kind::Unsupported(_) => "Leave it out.",
            },
            Self::NoSuchFlow(_) => "Create it with actionflow.create_flow.",
            Self::NoSuchSegment(_) => "Create it with actionflow.create_segment.",
            Self::NoSuchAttribute { .. } => {
                "Name a column of the customer table, or a path into a jsonb column such as \"attrs.tier\"."
            }
            Self::NotJsonb { .. } => "Only a jsonb column has paths inside.",
            Self::OperatorType { hint, .. } => hint,
            Self::ArchivedFlow(_) => "Create a new flow; an archived one keeps its history only.",
            Self::UnpublishedFlow(_) => {
                "Publish it with actionflow.publish_flow, or start it in mode 'test'."
            }
            Self::UnknownMode(_) => "Use one of: live, test.",
            Self::MissingVariable { .. } => "Give it under \"variables\" of the payload.",
            Self::TooDeep => "Nest it less deeply.",
            Self::TooLarge { .. } => "Send a reference to large data instead of the data.",
            Self::PropertiesNotObject => "Give an object such as '{\"amount\": 10}'.",
            Self::NoVerificationUrl(_) => {
                "Give the link that the person has to follow, as an absolute http or https URL."
            }
            Self::EventName(_) => {
                "Use 1 to 100 printable characters without \"/\" and without blanks at either end."
            }
            Self::Serialization => "Try the transaction again.",
            Self::Enrich { .. } => {
                "actionflow.enrich_attempts has the attempts; \"on_failure\" of the action says what a failure means."
            }
            Self::NotPreloaded => {
                "Add actionflow to shared_preload_libraries and restart the server."
            }
            Self::TooManyReceivers => {
                "64 connections of all databases can; a worker needs one, and a pooler must not stand between."
            }
            Self::NoUserId(_) => "Give it, or name another column with the option \"user_id\".",
            Self::NoSuchColumn(_) => {
                "Name columns of the table in \"user_id\", \"properties\" and \"fill\"."
            }
            Self::ReadOnly => "Emit it on the primary, in a transaction that may write.",
            Self::NoSuchPreset(_) => signature::preset_hint(),
            Self::Mapping(_) => {
                "actionflow.test_mapping shows what a mapping makes of a captured request."
            }
            Self::NoSample(_) => {
                "Arm it with actionflow.capture_webhook_sample, and let the sender send a request."
            }
            Self::Sample(_) => "Capture another request with actionflow.capture_webhook_sample.",
            Self::Refused(_) => return None,
            Self::Null(what) => return Some(format!("Give a value for {what}.")),
            Self::Spi(_) | Self::Internal(_) => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let mut report = Self::new(error.code(), error.to_string(), "actionflow");
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}
