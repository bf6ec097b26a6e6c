package egress

var children = map[string]func() int{}

const childVariable = "MATHUB_EGRESS_TEST_CHILD"
