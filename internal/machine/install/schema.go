package install

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Schema is the JSON schema of the answers file, from the tags of [Answers]: for
// editors, and for programs that write answers. docs/install.schema.json is a copy.
func Schema() []byte {
	s := schemaOf(reflect.TypeFor[Answers]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Answers to the Ashlar installer"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // it is made of maps and words
	}
	return append(b, '\n')
}

func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			f := t.Field(i)
			p := schemaOf(f.Type)
			p["description"] = f.Tag.Get("doc")
			if words, ok := f.Tag.Lookup("enum"); ok {
				p["enum"] = strings.Split(words, ",")
			}
			if f.Tag.Get("const") != "" {
				p["const"] = AnswersSchema
			}
			name := f.Tag.Get("toml")
			properties[name] = p
			if f.Tag.Get("required") != "" {
				required = append(required, name)
			}
		}
		s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
		if len(required) > 0 {
			s["required"] = required
		}
		return s
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	default:
		return map[string]any{"type": "string"}
	}
}
