//! Which route a path is, for the counters: the templates of the API's own description, so that no label is made up by a client.

use std::sync::Arc;

/// The name of whatever is no route.
const OTHER: &str = "other";

/// Every route's template; the last stands for all other paths.
pub(super) struct Templates {
    templates: Vec<Template>,
    names: Vec<Arc<str>>,
}

struct Template {
    /// `None`: a parameter.
    segments: Vec<Option<Box<str>>>,
}

impl Templates {
    pub(super) fn new<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut paths: Vec<_> = paths.map(|path| (Template::new(path), Arc::from(path))).collect();
        // A literal goes before a parameter, as in the router.
        paths.sort_by_key(|(template, _)| template.segments.iter().filter(|segment| segment.is_none()).count());
        let (templates, mut names): (_, Vec<Arc<str>>) = paths.into_iter().unzip();
        names.push(Arc::from(OTHER));
        Self { templates, names }
    }

    pub(super) fn find(&self, path: &str) -> usize {
        self.templates.iter().position(|template| template.matches(path)).unwrap_or(self.templates.len())
    }

    pub(super) fn name(&self, route: usize) -> &Arc<str> {
        &self.names[route]
    }
}

impl Template {
    fn new(path: &str) -> Self {
        let segment = |text: &str| if text.starts_with('{') { None } else { Some(Box::from(text)) };
        Self { segments: path.split('/').map(segment).collect() }
    }

    fn matches(&self, path: &str) -> bool {
        let mut given = path.split('/');
        let fits = |segment: &Option<Box<str>>| match (segment, given.next()) {
            (Some(literal), Some(text)) => **literal == *text,
            (None, Some(text)) => !text.is_empty(),
            (_, None) => false,
        };
        self.segments.iter().all(fits) && given.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_name_of_its_template() {
        let routes = Templates::new(
            ["/", "/livez", "/v1/services/{service}", "/v1/services/{service}/instances/{id}", "/v1/services/all"].into_iter(),
        );
        let name = |path| routes.name(routes.find(path)).to_string();
        for (path, expected) in [
            ("/", "/"),
            ("/livez", "/livez"),
            ("/v1/services/user", "/v1/services/{service}"),
            ("/v1/services/all", "/v1/services/all"),
            ("/v1/services/user/instances/a%2Fb", "/v1/services/{service}/instances/{id}"),
        ] {
            assert_eq!(name(path), expected);
        }
        for path in ["", "*", "//", "/livez/", "/v1/services/", "/v1/services/user/instances/a/b", "/etc/passwd"] {
            assert_eq!(name(path), OTHER, "{path}");
        }
    }
}
