// Package lists reads settings that are lists.
package lists

import (
	"reflect"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

var comma = regexp.MustCompile(`\s*,\s*`)

// Trimmed has kong read a flag that is a list with blanks beside its commas, as people write it.
func Trimmed() kong.Option {
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
