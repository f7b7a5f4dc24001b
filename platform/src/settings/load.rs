//! Reading settings, and telling everything that is wrong with them at once.
//!
//! Invariant: what was refused is taken out and the rest judged again, until nothing is refused, so one run names every
//! fault.

use std::path::Path;

use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::read;
use super::mask::{self, shortened};
use super::words;
use super::{ENV_PREFIX, Loaded, NOT_SETTINGS, SettingRow, SettingsError};

/// Faults that are told in one run: each costs a judgement of all the rest.
const MOST_FAULTS: usize = 100;

/// Loads `T` from its defaults, `file` (or `default_file` where that exists) and the environment.
pub fn load<T>(file: Option<&Path>, default_file: &str) -> Result<Loaded<T>, SettingsError>
where
    T: Default + Serialize + DeserializeOwned,
{
    match load_sound(file, default_file)? {
        (loaded, faults) if faults.is_empty() => Ok(loaded),
        (_, faults) => Err(SettingsError::Invalid(faults)),
    }
}

/// The same, without what is wrong, which is told beside it: for those who look for more faults in the rest.
pub fn load_sound<T>(
    file: Option<&Path>,
    default_file: &str,
) -> Result<(Loaded<T>, Vec<String>), SettingsError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let path = file.unwrap_or(Path::new(default_file));
    let text = match read(path) {
        Err(SettingsError::NoFile { .. }) if file.is_none() => None,
        read => Some(read?),
    };
    let file = text.as_ref().map(|_| path.to_owned());
    let mut faults = Vec::new();
    let mut layers = Vec::new();
    if let Some(text) = text {
        let metadata = Metadata::from("TOML file", path);
        // Without the file, all that it sets would seem to be missing.
        let layer = Layer::read(&Toml::string(&text), metadata);
        layers.push(layer.map_err(|fault| SettingsError::Invalid(vec![fault]))?);
    }
    let environment = Env::prefixed(ENV_PREFIX).ignore(&NOT_SETTINGS).split("__");
    let layer = Layer::read(&environment, environment.metadata());
    layers.extend(layer.map_err(|fault| faults.push(fault)));
    let (settings, rows) = loop {
        let figment = merged::<T>(&layers);
        match figment.extract().map_err(Box::new).and_then(|settings| Ok((settings, rows::<T>(&figment)?))) {
            Ok(loaded) => break loaded,
            Err(errors) => {
                let taken = errors.into_iter().map(|error| take_out(&mut layers, &error, &mut faults));
                let count = taken.filter(|taken| *taken).count();
                if faults.len() >= MOST_FAULTS {
                    faults.push("there are more faults; mend these first".to_owned());
                    return Err(SettingsError::Invalid(faults));
                }
                // What stands nowhere cannot be taken out: then there is nothing left to judge.
                if count == 0 {
                    return Err(SettingsError::Invalid(faults));
                }
            }
        }
    };
    Ok((Loaded { settings, rows, file }, faults))
}

/// One place that settings come from.
struct Layer {
    metadata: Metadata,
    data: Map<Profile, Dict>,
}

impl Layer {
    fn read(provider: &impl Provider, metadata: Metadata) -> Result<Self, String> {
        match provider.data() {
            Ok(mut data) => {
                data.values_mut().flat_map(Dict::values_mut).for_each(dates_as_texts);
                Ok(Self { metadata, data })
            }
            Err(error) => Err(explain(&error, &[], Some(&origin(&metadata, "")))),
        }
    }

    /// Removes a setting, if it is set here.
    fn remove(&mut self, path: &[String]) -> bool {
        let Some((name, parents)) = path.split_last() else { return false };
        self.data.values_mut().any(|dict| {
            let parent = parents.iter().try_fold(dict, |dict, name| match dict.get_mut(name) {
                Some(Value::Dict(_, dict)) => Some(dict),
                _ => None,
            });
            parent.is_some_and(|parent| parent.remove(name).is_some())
        })
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(self.data.clone())
    }
}

/// No setting is a date, and the parser hands one over as a table with a name of its own.
fn dates_as_texts(value: &mut Value) {
    const DATE: &str = "$__toml_private_datetime";
    if let Some(date) = value.as_dict().and_then(|entries| entries.get(DATE)).cloned() {
        *value = date;
        return;
    }
    match value {
        Value::Dict(_, entries) => entries.values_mut().for_each(dates_as_texts),
        Value::Array(_, items) => items.iter_mut().for_each(dates_as_texts),
        _ => {}
    }
}

fn merged<T: Default + Serialize>(layers: &[Layer]) -> Figment {
    let defaults = Figment::from(Serialized::defaults(T::default()));
    layers.iter().fold(defaults, |figment, layer| figment.merge(layer))
}

/// Notes an error and removes what caused it from the layer that won; `false` if it stands in none.
fn take_out(layers: &mut [Layer], error: &Error, faults: &mut Vec<String>) -> bool {
    let path = path(error);
    for length in (1..=path.len()).rev() {
        let part = path.get(..length).unwrap_or_default();
        if let Some(layer) = layers.iter_mut().rev().find_map(|layer| layer.remove(part).then_some(layer)) {
            faults.push(explain(error, &path, Some(&origin(&layer.metadata, &path.join(".")))));
            return true;
        }
    }
    let origin = error.metadata.as_ref().map(|metadata| origin(metadata, &path.join(".")));
    faults.push(explain(error, &path, origin.as_deref()));
    false
}

/// The setting at fault. For an unknown one, the library names the struct, the field, or both, in turn.
fn path(error: &Error) -> Vec<String> {
    let mut path = error.path.clone();
    if let Kind::UnknownField(field, _) = &error.kind {
        let field = field.rsplit('.').next().unwrap_or(field);
        if path.last().is_none_or(|last| last != field) {
            path.push(field.to_owned());
        }
    }
    path
}

/// What is wrong, where it stands, and what is allowed.
fn explain(error: &Error, path: &[String], origin: Option<&str>) -> String {
    let key = path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(_, known) => {
            let meant = path.last().and_then(|name| closest(name, known));
            let meant = meant.map(|name| format!("did you mean `{name}`; ")).unwrap_or_default();
            format!("unknown setting `{key}`; {meant}known here: {}", known.join(", "))
        }
        // The library would quote what it found.
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if mask::is_of_secret(error) => {
            format!("setting `{key}`: invalid; expected {expected}")
        }
        kind if key.is_empty() => without_quotation(&kind.to_string()),
        kind => format!("setting `{key}`: {}", words::fault(kind)),
    };
    let what = shortened(&what);
    let line = origin.map_or_else(|| what.clone(), |origin| format!("{what} (from {origin})"));
    line.replace('\n', " ")
}

/// The name that was probably meant: one that a slip or two of the fingers turn into what was written.
fn closest(written: &str, known: &[&'static str]) -> Option<&'static str> {
    let slips = |name: &&&str| strsim::osa_distance(written, name);
    known.iter().min_by_key(slips).filter(|name| slips(name) <= 1 + name.len() / 5).copied()
}

/// The parser of TOML quotes the line at fault, and a secret may stand there.
fn without_quotation(text: &str) -> String {
    let is_quotation =
        |line: &&str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    text.lines().filter(|line| !is_quotation(line)).collect::<Vec<_>>().join(": ")
}

fn origin(metadata: &Metadata, key: &str) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        _ if metadata.name.contains("environment") => {
            format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
        }
        _ => "default".to_owned(),
    }
}

fn rows<T: DeserializeOwned>(figment: &Figment) -> Result<Vec<SettingRow>, Box<Error>> {
    let all: Dict = figment.extract()?;
    let mut rows = Vec::new();
    flatten::<T>(figment, "", &Value::from(all), &mut rows);
    Ok(rows)
}

fn flatten<T: DeserializeOwned>(figment: &Figment, key: &str, value: &Value, rows: &mut Vec<SettingRow>) {
    if let Value::Dict(_, entries) = value {
        for (name, value) in entries {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            flatten::<T>(figment, &key, value, rows);
        }
        return;
    }
    let origin = figment.find_metadata(key).map_or_else(|| "default".to_owned(), |found| origin(found, key));
    let value = match value {
        Value::String(_, text) if mask::is_secret::<T>(figment, key) => mask::secret(text),
        value => mask::plain(value),
    };
    rows.push(SettingRow { key: key.to_owned(), value, origin });
}
