//! Which path is which route, and which methods it has.

use hyper::Method;

use crate::metrics::ROUTES;

/// What a path names. The order is that of the metrics' [`ROUTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Exec,
    Run,
    Runs,
    Cancel,
    Upload,
    Module,
    Events,
    Policy,
    Metrics,
    Health,
    Ready,
    OpenApi,
    Page,
    Asset,
    Other,
}

const _: () = assert!(Route::Other as usize + 1 == ROUTES.len());

impl Route {
    /// The route of a path, and the part of the path that varies.
    pub(super) fn of(path: &str) -> (Route, &str) {
        let Some(rest) = path.strip_prefix("/v1/") else {
            let route = match path {
                "/metrics" => Route::Metrics,
                "/health" => Route::Health,
                "/readyz" => Route::Ready,
                "/openapi.json" => Route::OpenApi,
                "/" => Route::Page,
                "/status.css" | "/status.js" | "/status.svg" => return (Route::Asset, path),
                _ => Route::Other,
            };
            return (route, "");
        };
        let mut parts = rest.split('/');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next()) {
            ("exec", None, ..) => (Route::Exec, ""),
            ("runs", None, ..) => (Route::Runs, ""),
            ("runs", Some(id), None, _) if !id.is_empty() => (Route::Run, id),
            ("runs", Some(id), Some("cancel"), None) if !id.is_empty() => (Route::Cancel, id),
            ("modules", None, ..) => (Route::Upload, ""),
            ("modules", Some(cid), None, _) if !cid.is_empty() => (Route::Module, cid),
            ("events", None, ..) => (Route::Events, ""),
            ("policy", None, ..) => (Route::Policy, ""),
            _ => (Route::Other, ""),
        }
    }

    /// The `Allow` header of a route.
    pub(super) const fn methods(self) -> &'static str {
        match self {
            Route::Exec | Route::Cancel => "POST",
            Route::Upload => "PUT",
            _ => "GET, HEAD",
        }
    }

    /// Whether the route has the method.
    pub(super) fn allows(self, method: &Method) -> bool {
        match self {
            Route::Exec | Route::Cancel => method == Method::POST,
            Route::Upload => method == Method::PUT,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// Whether a tenant is needed.
    pub(super) const fn is_for_tenants(self) -> bool {
        !matches!(
            self,
            Route::Metrics
                | Route::Health
                | Route::Ready
                | Route::OpenApi
                | Route::Page
                | Route::Asset
                | Route::Other
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_stand() {
        for (path, expected) in [
            ("/v1/exec", (Route::Exec, "")),
            ("/v1/runs", (Route::Runs, "")),
            ("/v1/runs/x", (Route::Run, "x")),
            ("/v1/runs/x/cancel", (Route::Cancel, "x")),
            ("/v1/modules", (Route::Upload, "")),
            ("/v1/modules/c", (Route::Module, "c")),
            ("/v1/events", (Route::Events, "")),
            ("/v1/policy", (Route::Policy, "")),
            ("/metrics", (Route::Metrics, "")),
            ("/health", (Route::Health, "")),
            ("/readyz", (Route::Ready, "")),
            ("/openapi.json", (Route::OpenApi, "")),
            ("/", (Route::Page, "")),
            ("/status.css", (Route::Asset, "/status.css")),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
        for path in [
            "",
            "*",
            "/status",
            "/status.css/",
            "/v1",
            "/v1/",
            "/v1/exec/",
            "/v1/runs/",
            "/v1/runs//cancel",
            "/v1/runs/x/",
            "/v1/runs/x/stop",
            "/v1/runs/x/cancel/",
            "/v1/runs/../../etc/passwd",
            "/v2/exec",
            "/V1/exec",
            "//v1/exec",
            "/health/",
        ] {
            assert_eq!(Route::of(path), (Route::Other, ""), "{path}");
        }
    }

    #[test]
    fn names_and_routes_go_together() {
        for (route, name) in [
            (Route::Exec, "exec"),
            (Route::Upload, "upload"),
            (Route::Ready, "ready"),
            (Route::Asset, "asset"),
            (Route::Other, "other"),
        ] {
            assert_eq!(ROUTES[route as usize], name);
        }
    }
}
