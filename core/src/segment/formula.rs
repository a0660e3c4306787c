//! Rules without inner negation: conditions, each as it is or negated, under "all" and "any".
//!
//! In this form a rule is monotone in its literals: what is known of a rule while some conditions are unknown lies between
//! its values with all of those false and all of them true.

use super::truth::Truth;

/// A rule over numbered conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    /// Holds when every part holds.
    All(Vec<Formula>),
    /// Holds when some part holds.
    Any(Vec<Formula>),
    /// Holds when the condition holds.
    Is(usize),
    /// Holds when the condition does not hold.
    IsNot(usize),
}

impl Formula {
    /// The truth of the rule, given that of every literal. The function is told the condition and whether it is negated,
    /// and answers for the literal; it is not asked for more than decides.
    pub fn truth(&self, literal: &mut impl FnMut(usize, bool) -> Truth) -> Truth {
        match self {
            Self::All(parts) => Truth::all(parts.iter().map(|part| part.truth(literal))),
            Self::Any(parts) => Truth::any(parts.iter().map(|part| part.truth(literal))),
            Self::Is(condition) => literal(*condition, false),
            Self::IsNot(condition) => literal(*condition, true),
        }
    }

    /// The opposite rule.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::All(parts) => Self::Any(parts.into_iter().map(Self::negated).collect()),
            Self::Any(parts) => Self::All(parts.into_iter().map(Self::negated).collect()),
            Self::Is(condition) => Self::IsNot(condition),
            Self::IsNot(condition) => Self::Is(condition),
        }
    }

    /// Every condition, with repetitions.
    pub fn conditions(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.conditions(visit);
                }
            }
            Self::Is(condition) | Self::IsNot(condition) => visit(*condition),
        }
    }

    /// Conditions of which at least one must hold for the rule to hold: the cheapest such set by `cost`, which is `None`
    /// for a condition that cannot serve. `None` when there is no such set.
    pub fn required(&self, cost: &impl Fn(usize) -> Option<u32>) -> Option<(u32, Vec<usize>)> {
        match self {
            Self::Is(condition) => Some((cost(*condition)?, vec![*condition])),
            Self::IsNot(_) => None,
            Self::All(parts) => parts
                .iter()
                .filter_map(|part| part.required(cost))
                .min_by_key(|(cost, _)| *cost),
            Self::Any(parts) => {
                let mut total = (0_u32, Vec::new());
                for part in parts {
                    let (cost, conditions) = part.required(cost)?;
                    total.0 = total.0.saturating_add(cost);
                    total.1.extend(conditions);
                }
                Some(total)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(formula: &Formula, conditions: [bool; 3]) -> bool {
        formula
            .truth(&mut |condition, is_negated| Truth::always(conditions[condition] != is_negated))
            .holds
    }

    #[test]
    fn the_negation_is_the_complement() {
        let formula = Formula::All(vec![
            Formula::Is(0),
            Formula::Any(vec![Formula::IsNot(1), Formula::Is(2)]),
        ]);
        let negated = formula.clone().negated();
        for bits in 0..8 {
            let conditions = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
            assert_ne!(holds(&formula, conditions), holds(&negated, conditions));
        }
    }

    #[test]
    fn without_a_required_condition_the_rule_cannot_hold() {
        let formula = Formula::All(vec![
            Formula::IsNot(0),
            Formula::Any(vec![Formula::Is(1), Formula::Is(2)]),
        ]);
        let required = formula
            .required(&|_| Some(1))
            .map(|(_, conditions)| conditions);
        assert_eq!(required, Some(vec![1, 2]));
        assert!(!holds(&formula, [false, false, false]));
        assert_eq!(Formula::IsNot(0).required(&|_| Some(1)), None);
        assert_eq!(Formula::All(vec![]).required(&|_| Some(1)), None);
        assert_eq!(
            Formula::Any(vec![]).required(&|_| Some(1)),
            Some((0, vec![]))
        );
    }
}
