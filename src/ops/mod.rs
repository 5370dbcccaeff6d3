//! A page to look at it: status, metrics, dashboard, log. Control plane: never on the hot path.
