//! Which route a path is, for the counters: the templates of the API's own description, so that no label is made up by a client.

use std::sync::Arc;

/// The name of whatever is no route.
const OTHER: &str = "other";

/// Every route's template, found by how many segments it has.
pub(super) struct Templates {
    by_length: Vec<Vec<Template>>,
    /// The last is for whatever is no route.
    names: Vec<Arc<str>>,
}

struct Template {
    route: usize,
    /// `None`: a parameter.
    segments: Vec<Option<Box<str>>>,
}

impl Templates {
    pub(super) fn new<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<Arc<str>> = paths.map(Arc::from).collect();
        let mut by_length: Vec<Vec<Template>> = Vec::new();
        for (route, name) in names.iter().enumerate() {
            let template = Template::new(route, name);
            let length = template.segments.len();
            by_length.resize_with(by_length.len().max(length + 1), Vec::new);
            by_length[length].push(template);
        }
        for same_length in &mut by_length {
            // A literal goes before a parameter, as in the router.
            same_length.sort_by_key(Template::parameter_count);
        }
        names.push(Arc::from(OTHER));
        Self { by_length, names }
    }

    pub(super) fn find(&self, path: &str) -> usize {
        let length = path.bytes().filter(|byte| *byte == b'/').count() + 1;
        let same_length = self.by_length.get(length).map_or(&[][..], Vec::as_slice);
        same_length.iter().find(|template| template.matches(path)).map_or(self.names.len() - 1, |template| template.route)
    }

    pub(super) fn name(&self, route: usize) -> &Arc<str> {
        &self.names[route]
    }
}

impl Template {
    fn new(route: usize, path: &str) -> Self {
        let segment = |text: &str| if text.starts_with('{') { None } else { Some(Box::from(text)) };
        Self { route, segments: path.split('/').map(segment).collect() }
    }

    fn parameter_count(&self) -> usize {
        self.segments.iter().filter(|segment| segment.is_none()).count()
    }

    /// Of a path with as many segments.
    fn matches(&self, path: &str) -> bool {
        self.segments.iter().zip(path.split('/')).all(|(segment, text)| match segment {
            Some(literal) => **literal == *text,
            None => !text.is_empty(),
        })
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
