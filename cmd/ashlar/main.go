// Command ashlar builds, publishes, installs, updates and verifies sealed systems.
package main

import (
	"os"

	"github.com/ashlar-os/ashlar/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
