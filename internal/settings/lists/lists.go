// Package lists reads settings as people write them, above all those that are lists.
package lists

import (
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

var comma = regexp.MustCompile(`\s*,\s*`)

// Trimmed has kong read settings as people write them: a list with blanks beside its commas, and a variable with blanks or a line
// break around its value, as a file ends with one.
func Trimmed() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		for _, variable := range os.Environ() {
			name, value, _ := strings.Cut(variable, "=")
			if trimmed := strings.TrimSpace(value); trimmed != value && (strings.HasPrefix(name, "MATHUB_") || strings.HasPrefix(name, "TEMPORAL_")) {
				if err := os.Setenv(name, trimmed); err != nil {
					return err
				}
			}
		}
		return lists().Apply(k)
	})
}

func lists() kong.Option {
	standard := kong.NewRegistry().RegisterDefaults().ForType(reflect.TypeFor[[]string]())
	return kong.KindMapper(reflect.Slice, kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		if token := ctx.Scan.Peek(); ctx.Value.Flag != nil && ctx.Value.Tag.Sep == ',' {
			if text, ok := token.Value.(string); ok {
				ctx.Scan.Pop()
				ctx.Scan.PushTyped(strings.TrimSpace(comma.ReplaceAllString(text, ",")), token.Type)
			}
		}
		return standard.Decode(ctx, target)
	}))
}
