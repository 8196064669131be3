// Package pin makes the go command keep the modules that franz-go's tests need.
package pin

import _ "github.com/twmb/franz-go/pkg/kgo"
