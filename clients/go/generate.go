package mathub

//go:generate go run ../../api/orderdoc ../../api/openapi.yaml ../../api/openapi.ordered.yaml
//go:generate go tool -modfile=../../tools/go.mod oapi-codegen -config oapi-codegen.yaml ../../api/openapi.ordered.yaml
//go:generate go run ./gentypes mathub events_gen.go
