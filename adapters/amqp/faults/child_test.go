package faults

import "os"

const roleVar = "MOTIF_FAULTS_CHILD"

func beChild(role string) { os.Exit(3) }
