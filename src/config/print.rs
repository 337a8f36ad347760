//! The configuration in force, as one file that could be loaded again: what `-T` prints.
//!
//! It is written from what was compiled, with every default filled in and merged, so that it shows what is and not what was
//! meant. Loading it and printing again gives the same text.

use super::Loaded;
use super::answers::AnswersSpec;
use super::block::BlockSpec;
use super::routes::RouteSpec;
use super::settings::SettingsSpec;
use super::upstreams::UpstreamSpec;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The settings, a line of `---`, and the upstreams and routes.
pub fn print(loaded: &Loaded) -> String {
    let settings = SettingsSpec::of(&loaded.settings);
    let document = Document {
        defaults: loaded.resolved.unrouted.as_ref(),
        upstreams: Upstreams(&loaded.resolved.upstreams),
        block: loaded.resolved.block.as_ref(),
        routes: &loaded.resolved.routes,
    };
    // Neither holds anything that YAML could not express; if it did, the message would be the best place to learn of it.
    let text = |result: Result<String, serde_yaml::Error>| {
        result.unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    };
    format!(
        "{}---\n{}",
        text(serde_yaml::to_string(&settings)),
        text(serde_yaml::to_string(&document))
    )
}

#[derive(serde::Serialize)]
struct Document<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<&'a BlockSpec>,
    /// Routes have all that they take from the defaults; what no route makes has only these.
    #[serde(skip_serializing_if = "Option::is_none")]
    defaults: Option<&'a AnswersSpec>,
    upstreams: Upstreams<'a>,
    routes: &'a [RouteSpec],
}

struct Upstreams<'a>(&'a [(String, UpstreamSpec)]);

impl Serialize for Upstreams<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, upstream) in self.0 {
            map.serialize_entry(name, upstream)?;
        }
        map.end()
    }
}
