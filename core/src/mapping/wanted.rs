//! Which parts of a payload a mapping can look at, so that nobody has to read the rest of a large one.

/// What is wanted of a value.
///
/// A mapping makes the same of a payload as of one in which all else is missing: members that are not named, and whatever is
/// no object where members are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    All,
    /// The members of these names, when it is an object; in the order of keys in jsonb, which is by length and then by bytes.
    Members(Vec<(String, Wanted)>),
}

impl Wanted {
    pub(super) const NOTHING: Self = Self::Members(Vec::new());

    /// Adds all of the value that is found by these names, one inside of the other.
    pub(super) fn add<'n>(&mut self, mut names: impl Iterator<Item = &'n str>) {
        let Self::Members(members) = self else {
            return;
        };
        let Some(name) = names.next() else {
            *self = Self::All;
            return;
        };
        let order =
            |known: &str| (known.len(), known.as_bytes()).cmp(&(name.len(), name.as_bytes()));
        let at = members
            .binary_search_by(|(known, _)| order(known))
            .unwrap_or_else(|at| {
                members.insert(at, (name.to_owned(), Self::NOTHING));
                at
            });
        if let Some((_, inner)) = members.get_mut(at) {
            inner.add(names);
        }
    }
}
