//! The statements that are repeated under more and more segments, and their targets.

/// The table without actionflow, and the watched one.
pub(super) const TABLES: [&str; 2] = ["bare_customers", "customers"];

/// A statement to repeat.
pub(super) struct Change {
    pub(super) name: &'static str,
    /// `$1` picks the customer, and `$2` is from 1 to 99.
    pub(super) sql: &'static str,
    pub(super) clients: usize,
    /// Numbers of segments that have a target.
    targets: &'static [(u32, f64)],
    /// Whether the other numbers are measured, too.
    everywhere: bool,
}

// All thresholds are multiples of 100, and no score is: a score moves between its two neighbours only.
pub(super) const UPDATE_SCORE: &str =
    "update {table} set score = score - score % 100 + $2::int where id = $1::bigint";

const INSERT: &str = "insert into {table} \
    (email, plan, country, city, score, last_seen, signed_up_at, tags, attrs) values \
    ('user' || $1::bigint || '@none.example', 'none', 'none', 'none', $2::int, now() - interval '4800 hours', \
    '2021-06-01 00:00+00', '{none}', '{\"tier\": \"none\", \"os\": \"ios\"}')";

const UPDATE_TARGETS: &[(u32, f64)] = &[(10, 1.2), (100, 1.3), (1000, 1.5), (10_000, 2.0)];

pub(super) const CHANGES: [Change; 7] = [
    Change {
        name: "update of score, 1 client",
        sql: UPDATE_SCORE,
        clients: 1,
        targets: UPDATE_TARGETS,
        everywhere: true,
    },
    Change {
        name: "update of score, 8 clients",
        sql: UPDATE_SCORE,
        clients: 8,
        targets: UPDATE_TARGETS,
        everywhere: true,
    },
    Change {
        name: "update of score, 1000 rows a statement",
        sql: "update {table} set score = score - score % 100 + $2::int where id % 2 = $1::bigint % 2",
        clients: 1,
        targets: &[],
        everywhere: true,
    },
    Change {
        name: "update of what no segment reads, 1 client",
        sql: "update {table} set visits = visits + $2::int where id = $1::bigint",
        clients: 1,
        targets: &[],
        everywhere: true,
    },
    Change {
        name: "update of last_seen to now, 1 client",
        sql: "update {table} set last_seen = now() - $2::int * interval '1 millisecond' where id = $1::bigint",
        clients: 1,
        targets: &[],
        everywhere: true,
    },
    Change {
        name: "insert, 1 client",
        sql: INSERT,
        clients: 1,
        targets: &[(1000, 2.0)],
        everywhere: false,
    },
    Change {
        name: "insert, 8 clients",
        sql: INSERT,
        clients: 8,
        targets: &[(1000, 2.0)],
        everywhere: false,
    },
];

impl Change {
    pub(super) fn target(&self, segments: u32) -> Option<f64> {
        let target = self.targets.iter().find(|(count, _)| *count == segments);
        target.map(|(_, ratio)| *ratio)
    }

    pub(super) fn is_measured(&self, segments: u32) -> bool {
        self.everywhere || self.target(segments).is_some()
    }
}
