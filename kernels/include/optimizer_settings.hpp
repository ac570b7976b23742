// What a step of an optimiser is told, the same for every element.
#pragma once

namespace fastnn_optimizer {

struct sgd_settings {
  double lr, momentum, dampening, weight_decay;
  int nesterov, first, maximize;  // first: the velocity is set to the gradient, whatever it holds
};
struct rmsprop_settings {
  double lr, alpha, eps, weight_decay, momentum;
  int centered, maximize;
};
struct adam_settings {
  double lr, beta1, beta2, eps, weight_decay;
  double correction1, root_correction2;  // 1 - beta1^step, sqrt(1 - beta2^step)
  int decoupled, amsgrad, maximize;
};

}  // namespace fastnn_optimizer
