// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IUpdateOrders} from "../../contracts/interfaces/IUpdateOrders.sol";
import {ForgeTest} from "./Forge.sol";
import {UpdateOrdersHandler} from "./UpdateOrdersHandler.sol";

/// @title The numbered invariants of UpdateOrders, checked after random calls of the handler
contract UpdateOrdersInvariants is ForgeTest {
    UpdateOrdersHandler private _handler;
    IUpdateOrders private _orders;

    function setUp() external {
        _handler = new UpdateOrdersHandler();
        _orders = _handler.orders();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 300; ++i) {
            _step(_mix(i, "action"), _mix(i, "who"), _mix(i, "which"), _mix(i, "seed"));
            if (i % 30 != 0) continue;
            this.invariant_O1_onlyActiveOperatorsOrder();
            this.invariant_O2_aGroupNeverChanges();
            this.invariant_O4_theCurrentOrderIsTheNewestAsItWasPlaced();
            this.invariant_O8_anOrderOfABannedOperatorIsNotOpen();
        }
    }

    function invariant_O1_onlyActiveOperatorsOrder() external {
        for (uint256 who = 0; who < _handler.PEOPLE(); ++who) {
            if (who < 3 && _handler.isActive(who)) continue;
            bytes4 selector = IUpdateOrders.NotAnOperator.selector;
            address account = _handler.accountOf(who);
            bytes memory refusal = abi.encodeWithSelector(
                selector,
                account,
                _handler.kindOf(who),
                _handler.isActive(who)
            );
            bytes memory call = abi.encodeCall(_orders.order, ("group-0", 1, address(1), "acme", 1, 0, type(uint40).max));
            _expect(account, address(_orders), call, refusal);
            call = abi.encodeCall(_orders.defineGroup, ("new", IUpdateOrders.GroupKind.List, "root"));
            _expect(account, address(_orders), call, refusal);
        }
    }

    function invariant_O2_aGroupNeverChanges() external view {
        for (uint256 which = 0; which < _handler.GROUPS(); ++which) {
            bytes memory stored = abi.encode(_orders.group(_handler.nameOf(which)));
            require(keccak256(stored) == keccak256(abi.encode(_handler.group(which))), "O2");
        }
    }

    /// @notice So at most one order of a group and a product is open, and ids are in sequence.
    function invariant_O4_theCurrentOrderIsTheNewestAsItWasPlaced() external view {
        require(_orders.orderCount() == _handler.placed(), "O4: count");
        for (uint256 which = 0; which < _handler.GROUPS(); ++which) {
            for (uint256 product = 0; product < _handler.PRODUCTS(); ++product) {
                bytes memory stored = abi.encode(_current(which, product));
                require(keccak256(stored) == keccak256(abi.encode(_handler.expected(which, product))), "O4");
            }
        }
    }

    function invariant_O8_anOrderOfABannedOperatorIsNotOpen() external view {
        for (uint256 which = 0; which < _handler.GROUPS(); ++which) {
            for (uint256 product = 0; product < _handler.PRODUCTS(); ++product) {
                IUpdateOrders.Order memory one = _current(which, product);
                if (one.status != IUpdateOrders.Status.Open) continue;
                uint256 who = uint256(uint128(one.operator)) - 1;
                require(!_handler.banned(who) && _handler.bannedAt(who) < one.placedAt, "O8");
            }
        }
    }

    function _step(uint256 action, uint256 who, uint256 which, uint256 seed) private {
        action %= 10;
        if (action == 0) _handler.defineGroup(who, which, seed);
        else if (action < 5) _handler.order(who, which, seed / 2, seed);
        else if (action < 7) _handler.cancel(who, which, seed / 16, seed);
        else if (action == 7) _handler.allow(which, seed);
        else if (action == 8) _handler.ban(who, seed);
        else _handler.retire(who, seed);
        _handler.warp(seed / 4);
    }

    function _current(uint256 which, uint256 product) private view returns (IUpdateOrders.Order memory) {
        return _orders.current(_handler.nameOf(which), 1, _handler.BLOCK_OTA(), _handler.productOf(product));
    }
}
