// The mathematical functions the activations are made of, each derived in its own file.
#pragma once
#include "vmath/erfc.hpp"
#include "vmath/exp.hpp"
#include "vmath/gelu_tanh.hpp"
#include "vmath/log1p.hpp"
#include "vmath/logistic.hpp"
#include "vmath/mish.hpp"
#include "vmath/tanh.hpp"
#include "vmath/trig.hpp"
