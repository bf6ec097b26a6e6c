package pages

// StyleSheet is the look of all pages, the API's reference and guides among them.
func StyleSheet() string { return string(assets()["portal.css"].plain) }
