package api

//go:generate go run ./catalogdoc openapi.yaml
//go:generate go run ./orderdoc openapi.yaml openapi.ordered.yaml
//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.ordered.yaml
