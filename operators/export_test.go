package operators

// Routes are all of the pages and actions, as "GET /ops/bots".
func Routes(cfg Config) ([]string, error) {
	s, err := newSite(cfg)
	if err != nil {
		return nil, err
	}
	return s.routes, nil
}
