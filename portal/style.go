package portal

// StyleSheet is the look of the portal, and of the API's reference and guides.
func StyleSheet() string {
	content, err := staticFiles.ReadFile("static/portal.css")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(content)
}
