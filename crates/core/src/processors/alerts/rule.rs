//! Rules as their settings say them, one a line: name, detector, severity, scope, symbols and
//! parameters, with tabs between them.

use super::hours::Hours;
use super::table::{self, Entry};
use crate::error::{Error, Result};
use crate::record::Severity;

/// Rules of one source, at most.
const RULES_MAX: usize = 256;
const NS_PER_MS: f64 = 1e6;

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) entry: &'static Entry,
    pub(super) severity: Severity,
    /// Whether it looks at the source as a whole.
    pub(super) is_of_source: bool,
    /// None: all.
    symbols: Vec<String>,
    numbers: Vec<(&'static str, f64)>,
    texts: Vec<(&'static str, String)>,
    pub(super) hours: Option<Hours>,
}

impl Rule {
    /// The number that the settings give, or the default of the table.
    ///
    /// # Panics
    /// The table has no such parameter: our bug.
    pub(super) fn number(&self, name: &str) -> f64 {
        let given = self.numbers.iter().find(|(known, _)| *known == name);
        given.map(|&(_, value)| value).unwrap_or_else(|| {
            let known = self.entry.numbers.iter().find(|known| known.name == name);
            known.expect("the table has every number that is asked for").default
        })
    }

    /// A length that is given in ms, in ns.
    pub(super) fn ns(&self, name: &str) -> i64 {
        (self.number(name) * NS_PER_MS) as i64
    }

    /// A whole number from 1 on.
    pub(super) fn count(&self, name: &str) -> usize {
        self.number(name).clamp(1.0, 1e6) as usize
    }

    /// The text that the settings give, or the default of the table.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.texts.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => value,
            None => {
                let known = self.entry.texts.iter().find(|known| known.name == name);
                known.map_or("", |known| known.default)
            }
        }
    }

    /// Whether it is for the instrument of that symbol.
    pub(super) fn is_for(&self, symbol: &str) -> bool {
        self.symbols.is_empty() || self.symbols.iter().any(|name| name == symbol)
    }

    /// Whether it names symbols.
    pub(super) fn has_symbols(&self) -> bool {
        !self.symbols.is_empty()
    }

    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split('\t');
        let mut word = || words.next().unwrap_or_default();
        let (name, detector, severity, scope, symbols) = (word(), word(), word(), word(), word());
        let told = |what: String| Error::invalid(format!("the rule {name:?}: {what}"));
        if name.is_empty() || name.len() > 32 {
            return Err(told("expected a name of 1 to 32 bytes".to_owned()));
        }
        let entry = table::find(detector).map_err(|error| told(error.to_string()))?;
        let severity = Severity::from_name(severity).ok_or_else(|| {
            told(format!("expected a severity of info, warning or critical, got {severity:?}"))
        })?;
        let is_of_source = match scope {
            "" => entry.is_of_source,
            "source" if entry.may_be_of_source => true,
            "instrument" if !entry.is_of_source => false,
            _ => return Err(told(format!("{detector} has no scope {scope:?}"))),
        };
        let symbols: Vec<_> =
            symbols.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if is_of_source && !symbols.is_empty() {
            return Err(told("a rule of the whole source has no symbols".to_owned()));
        }
        let mut rule = Self {
            name: name.to_owned(),
            entry,
            severity,
            is_of_source,
            symbols,
            numbers: Vec::new(),
            texts: Vec::new(),
            hours: None,
        };
        for pair in words {
            rule.set(pair).map_err(|error| told(error.to_string()))?;
        }
        rule.check().map_err(|error| told(error.to_string()))?;
        Ok(rule)
    }

    /// Takes in a parameter, `name=value`.
    fn set(&mut self, pair: &str) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some(known) = self.entry.texts.iter().find(|known| known.name == name) {
            self.texts.push((known.name, value.to_owned()));
            return Ok(());
        }
        let Some(known) = self.entry.numbers.iter().find(|known| known.name == name) else {
            let names = self.entry.parameters().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(format!(
                "expected a parameter of {}: {names}; got {name:?}",
                self.entry.name
            )));
        };
        match value.parse::<f64>() {
            Ok(number) if known.takes(number) => {
                self.numbers.push((known.name, number));
                Ok(())
            }
            _ => Err(Error::invalid(format!("{name}: expected {}, got {value}", known.range()))),
        }
    }

    fn check(&mut self) -> Result<()> {
        if !self.text("hours").is_empty() {
            self.hours = Some(Hours::parse(self.text("hours"), self.text("zone"))?);
        }
        (self.entry.check)(self)
    }
}

/// All rules of `text`.
///
/// # Errors
/// `Error::Invalid`: a rule is wrong, or there are two of one name; the message names it.
pub(super) fn rules_of(text: &str) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let rule = Rule::parse(line)?;
        if rules.iter().any(|known| known.name == rule.name) {
            return Err(Error::invalid(format!("expected one rule {:?}, got two", rule.name)));
        }
        rules.push(rule);
    }
    if rules.len() > RULES_MAX {
        return Err(Error::invalid(format!(
            "expected up to {RULES_MAX} rules, got {}",
            rules.len()
        )));
    }
    Ok(rules)
}
