package main

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

const (
	botPaths = "/api/bot/v1/"
	apiHead  = `// Code generated from api/openapi.yaml by "make generate". DO NOT EDIT.
import type { EventType, MathubEvent } from "./events.js";

/** What a call is made of. */
export interface Call {
	method: string;
	path: string;
	query?: object;
	body?: unknown;
}

/** Options of a call. */
export interface CallOptions {
	/** Gives the call up. */
	signal?: AbortSignal;
}

/** A page of a list. next is the cursor of the next page; the last page has none. */
export type Page<T> = T[] & { next?: string };

/** The calls of the bot API. */
export abstract class BotAPI {
	/** Makes a call and returns the answer's body. */
	protected abstract send<T>(call: Call, options?: CallOptions): Promise<T>;
	/** Yields the items of all pages. */
	protected abstract pages<T>(list: (cursor?: string) => Promise<Page<T>>, first?: string): AsyncGenerator<T, void, undefined>;
`
)

// ours are the schemas that events.ts has, with the types of the catalog.
var ours = map[string]string{"EventType": "EventType", "PolledEvent": "MathubEvent"}

// api draws TypeScript from the document. Types of objects are written in the order in which they are first needed.
type api struct {
	document yaml.MapSlice
	needed   []string
	known    map[string]bool
	queries  strings.Builder // the types of queries
}

func botAPI(raw []byte) (string, error) {
	a := &api{known: map[string]bool{}}
	if err := yaml.UnmarshalWithOptions(raw, &a.document, yaml.UseOrderedMap()); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(apiHead)
	for _, path := range object(a.document, "paths") {
		name, _ := path.Key.(string)
		if !strings.HasPrefix(name, botPaths) {
			continue
		}
		item := path.Value.(yaml.MapSlice)
		for _, call := range item {
			operation, ok := call.Value.(yaml.MapSlice)
			if method := call.Key.(string); ok && method != "parameters" {
				b.WriteString(a.method(name, method, item, operation))
			}
		}
	}
	b.WriteString("}\n" + a.queries.String())
	for i := 0; i < len(a.needed); i++ { // it grows
		schema := a.resolve("#/components/schemas/" + a.needed[i])
		fmt.Fprintf(&b, "\n%sexport interface %s %s\n", comment("", text(schema, "description")), a.needed[i], a.members(schema, ""))
	}
	return b.String(), nil
}

// method is the method of an operation, and where that is a list in pages, another that yields the items of all of them.
func (a *api) method(path, method string, item, operation yaml.MapSlice) string {
	id := text(operation, "operationId")
	var params, args, query []string
	for _, p := range append(a.list(item, "parameters"), a.list(operation, "parameters")...) {
		switch name := text(p, "name"); text(p, "in") {
		case "path":
			params, args = append(params, name+": string"), append(args, name)
			path = strings.Replace(path, "{"+name+"}", "${encodeURIComponent("+name+")}", 1)
		case "query":
			query = append(query, fmt.Sprintf("%s\t%s?: %s;\n", comment("\t", text(p, "description")), name, a.kind(object(p, "schema"), "\t")))
		}
	}
	call := fmt.Sprintf("method: %q, path: `%s`", strings.ToUpper(method), path)
	if body := object(operation, "requestBody"); body != nil {
		mark := "?"
		if value(body, "required") == true {
			mark = ""
		}
		params = append(params, "body"+mark+": "+a.kind(content(body), "\t"))
		call += ", body"
	}
	head := comment("\t", text(operation, "summary")+"\n"+text(operation, "description"))
	if len(query) > 0 {
		queryType := strings.ToUpper(id[:1]) + id[1:] + "Query"
		fmt.Fprintf(&a.queries, "\n/** What %s can be asked for. */\nexport interface %s {\n%s}\n", id, queryType, strings.Join(query, ""))
		params, args = append(params, "query: "+queryType+" = {}"), append(args, "{ ...query, %s: cursor }")
		call += ", query"
	}
	result, cursor := a.answer(operation, query)
	signature := strings.Join(append(params, "options?: CallOptions"), ", ")
	out := fmt.Sprintf("\n%s\t%s(%s): Promise<%s> {\n\t\treturn this.send({ %s }, options);\n\t}\n", head, id, signature, result, call)
	if cursor == "" {
		return out
	}
	all := strings.TrimPrefix(id, "list")
	all = strings.ToLower(all[:1]) + all[1:]
	args = append(args, "options")
	inner := strings.TrimSuffix(strings.TrimPrefix(result, "Page<"), ">")
	return out + fmt.Sprintf("\n\t/** What %s lists, of all pages. */\n\t%s(%s): AsyncGenerator<%s, void, undefined> {\n\t\treturn this.pages((cursor) => this.%s(%s), query.%s);\n\t}\n",
		id, all, signature, inner, id, fmt.Sprintf(strings.Join(args, ", "), cursor), cursor)
}

// answer is the type of an operation's answer, and where that is a page, the name of its cursor.
func (a *api) answer(operation yaml.MapSlice, query []string) (kind, cursor string) {
	for _, status := range object(operation, "responses") {
		response, ok := status.Value.(yaml.MapSlice)
		if code, _ := status.Key.(string); !ok || !strings.HasPrefix(code, "2") {
			continue
		}
		schema := content(response)
		if schema == nil {
			return "void", ""
		}
		if object(response, "headers", "Link") == nil {
			return a.kind(schema, "\t"), ""
		}
		cursor = "before"
		if strings.Contains(strings.Join(query, "\n"), "\tafter?:") {
			cursor = "after"
		}
		return "Page<" + a.kind(object(schema, "items"), "\t") + ">", cursor
	}
	return "void", ""
}

// members is the body of an object's type.
func (a *api) members(schema yaml.MapSlice, indent string) string {
	required := map[any]bool{}
	names, _ := value(schema, "required").([]any)
	for _, name := range names {
		required[name] = true
	}
	var b strings.Builder
	b.WriteString("{\n")
	for _, member := range object(schema, "properties") {
		mark := "?"
		if required[member.Key] {
			mark = ""
		}
		inner := member.Value.(yaml.MapSlice)
		fmt.Fprintf(&b, "%s%s\t%s%s: %s;\n", comment(indent+"\t", text(inner, "description")), indent, member.Key, mark, a.kind(inner, indent+"\t"))
	}
	b.WriteString(indent + "}")
	return b.String()
}

// kind is a schema's type. Objects with a name are needed from then on; texts and numbers with a name have none here.
func (a *api) kind(schema yaml.MapSlice, indent string) string {
	if ref := text(schema, "$ref"); ref != "" {
		name := ref[strings.LastIndex(ref, "/")+1:]
		if own := ours[name]; own != "" {
			return own
		}
		target := a.resolve(ref)
		if object(target, "properties") == nil {
			return a.kind(target, indent)
		}
		if !a.known[name] {
			a.known[name] = true
			a.needed = append(a.needed, name)
		}
		return name
	}
	var kinds []string
	if choices := a.list(schema, "oneOf"); choices != nil {
		for _, one := range choices {
			kinds = append(kinds, a.kind(one, indent))
		}
		return strings.Join(kinds, " | ")
	}
	types, isList := value(schema, "type").([]any)
	if !isList {
		types = []any{value(schema, "type")}
	}
	for _, name := range types {
		kinds = append(kinds, a.plain(name, schema, indent))
	}
	return strings.Join(kinds, " | ")
}

func (a *api) plain(name any, schema yaml.MapSlice, indent string) string {
	switch name {
	case "array":
		item := a.kind(object(schema, "items"), indent)
		if strings.Contains(item, " ") {
			item = "(" + item + ")"
		}
		return item + "[]"
	case "integer":
		return "number"
	case "object":
		if object(schema, "properties") != nil {
			return a.members(schema, indent)
		}
		if values := object(schema, "additionalProperties"); values != nil {
			return "Record<string, " + a.kind(values, indent) + ">"
		}
		return "Record<string, unknown>"
	case "string":
		if names, ok := value(schema, "enum").([]any); ok {
			var quoted []string
			for _, name := range names {
				quoted = append(quoted, fmt.Sprintf("%q", name))
			}
			return strings.Join(quoted, " | ")
		}
	}
	return fmt.Sprint(name)
}

// resolve is what a reference within the document leads to.
func (a *api) resolve(ref string) yaml.MapSlice {
	return object(a.document, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
}

// list is a member that is a list of objects, references followed where they are not to schemas.
func (a *api) list(in yaml.MapSlice, name string) []yaml.MapSlice {
	items, _ := value(in, name).([]any)
	var list []yaml.MapSlice
	for _, item := range items {
		entry, _ := item.(yaml.MapSlice)
		if ref := text(entry, "$ref"); ref != "" && !strings.Contains(ref, "/schemas/") {
			entry = a.resolve(ref)
		}
		list = append(list, entry)
	}
	return list
}

// content is the schema of a JSON body.
func content(in yaml.MapSlice) yaml.MapSlice {
	return object(in, "content", "application/json", "schema")
}

func value(in yaml.MapSlice, name string) any {
	for _, item := range in {
		if item.Key == name {
			return item.Value
		}
	}
	return nil
}

func object(in yaml.MapSlice, names ...string) yaml.MapSlice {
	for _, name := range names {
		in, _ = value(in, name).(yaml.MapSlice)
	}
	return in
}

func text(in yaml.MapSlice, name string) string {
	s, _ := value(in, name).(string)
	return s
}
