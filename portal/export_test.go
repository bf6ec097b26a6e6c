package portal

// Route is a route as the tests that walk all of them see it.
type Route struct {
	Method, Pattern string
	// Anybody and Viewers say who may use it; else it takes the role manage.
	Anybody, Viewers bool
}

// Routes are all of the portal's.
func Routes(cfg Config) ([]Route, error) {
	p, err := newPortal(cfg)
	if err != nil {
		return nil, err
	}
	all := make([]Route, len(p.routes))
	for i, r := range p.routes {
		all[i] = Route{r.method, r.pattern, r.access == anybody, r.access == viewers || r.access == leavers}
	}
	return all, nil
}
