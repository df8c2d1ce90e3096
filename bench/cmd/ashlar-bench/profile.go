package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
)

// profiled runs another verb and writes where its processor time went:
//
//	ashlar-bench profile FILE publish -tree …
//	go tool pprof -top FILE
func profiled(ctx context.Context, args []string) error {
	if len(args) < 2 || verbs[args[1]] == nil {
		return fmt.Errorf("usage: ashlar-bench profile FILE VERB [ARGUMENT…]")
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return verbs[args[1]](ctx, args[2:])
}
